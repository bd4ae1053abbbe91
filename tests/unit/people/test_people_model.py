"""Addresses, counters' keys, secrets' forms."""

import pytest

from shared.kernel.addresses import fold_email
from shared.kernel.errors import InvalidRequest
from shared.people.model import (
    OF_ACCOUNT,
    OF_ADDRESS,
    InvalidRefreshToken,
    OpenedSession,
    network_of,
    sha256_of_link,
    sha256_of_refresh_token,
)


@pytest.mark.parametrize(
    ("given", "folded"),
    [
        ("Ada@Example.ORG", "ada@example.org"),
        ("  ada@example.org\n", "ada@example.org"),
        ("ada+runs@mail.example.org", "ada+runs@mail.example.org"),
        ("o'neill@example.org", "o'neill@example.org"),
        ("ada@bücher.example", "ada@xn--bcher-kva.example"),
        ("ada@BU\u0308CHER.example", "ada@xn--bcher-kva.example"),
        ("ada@\uff45xample.org", "ada@example.org"),
    ],
)
def test_an_address_has_one_form(given: str, folded: str) -> None:
    assert fold_email(given) == folded
    assert fold_email(folded) == folded
    assert folded == folded.lower()


@pytest.mark.parametrize(
    "given",
    [
        "",
        "@",
        "ada",
        "ada@",
        "@example.org",
        "ada@localhost",
        "ada@.org",
        "ada@example..org",
        "ada@-example.org",
        "ada@exam ple.org",
        "a da@example.org",
        "ada@example.org, eve@example.org",
        "ada@example.org\r\nBcc: eve@example.org",
        "Ada <ada@example.org>",
        "ada@eve@example.org",
        "ädä@example.org",
        "ada\x00@example.org",
        "a" * 65 + "@example.org",
        "ada@" + "a" * 64 + ".org",
        "a@" + "abcdefgh." * 30 + "org",
        "ada@[127.0.0.1]",
        "\ud800@example.org",
        "ada@\ud800.org",
    ],
)
def test_what_is_no_address_is_refused(given: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        fold_email(given)
    assert refused.value.param == "email"


@pytest.mark.parametrize(
    ("ip", "network"),
    [
        ("203.0.113.10", "203.0.113.10"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::1", "2001:db8:1:2::/64"),
        ("", ""),
        ("unknown", "unknown"),
    ],
)
def test_an_ipv6_clients_network_is_counted_rather_than_its_address(ip: str, network: str) -> None:
    assert network_of(ip) == network


def test_counters_of_one_name_differ_by_what_they_count() -> None:
    assert OF_ACCOUNT.subject("a") != OF_ACCOUNT.subject("b")
    assert OF_ACCOUNT.subject("a") != OF_ADDRESS.subject("a")


@pytest.mark.parametrize("text", ["", "ry_refresh_", "ry_refresh_" + "a" * 42, "ry_refresh_" + "a" * 43 + "\n"])
def test_what_has_not_the_form_of_a_refresh_token_is_not_looked_up(text: str) -> None:
    with pytest.raises(InvalidRefreshToken):
        sha256_of_refresh_token(text)


def test_any_text_can_be_looked_up_as_a_link() -> None:
    assert len(sha256_of_link("\ud800")) == 32


def test_a_refresh_token_is_not_shown() -> None:
    assert "secret" not in repr(OpenedSession(session=None, refresh_token="secret"))  # type: ignore[arg-type]
