"""Where an issuer may be: public addresses by https, and local networks only where that is asked for."""

import pytest

from shared.logins.addresses import check_address, check_url
from shared.logins.model import IssuerRefused

PUBLIC = ("8.8.8.8", "192.0.43.8", "2606:4700:4700::1111", "::ffff:8.8.8.8")
LOCAL = ("127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.0.1", "::1", "fd00::1", "::ffff:10.0.0.1")
NEVER = (
    "0.0.0.0",
    "::",
    "169.254.169.254",
    "fe80::1",
    "fe80::1%eth0",
    "::ffff:169.254.169.254",
    "224.0.0.1",
    "ff02::1",
    "240.0.0.1",
    "255.255.255.255",
    # With an IPv4 address inside: 127.0.0.1, 169.254.169.254.
    "64:ff9b::7f00:1",
    "2002:a9fe:a9fe::1",
)


@pytest.mark.parametrize("address", PUBLIC)
def test_a_public_address_is_fine(address: str) -> None:
    assert check_address(address, private=False) == address


@pytest.mark.parametrize("address", LOCAL)
def test_a_local_address_is_fine_at_home_alone(address: str) -> None:
    assert check_address(address, private=True) == address
    with pytest.raises(IssuerRefused):
        check_address(address, private=False)


@pytest.mark.parametrize("address", NEVER)
def test_some_addresses_are_never_an_issuers(address: str) -> None:
    for private in (True, False):
        with pytest.raises(IssuerRefused):
            check_address(address, private=private)


def test_shared_address_space_is_no_public_place() -> None:
    with pytest.raises(IssuerRefused):
        check_address("100.64.0.1", private=False)


@pytest.mark.parametrize("url", ["https://id.example.com", "https://id.example.com:8443/realms/one/"])
def test_a_plain_https_url_is_fine(url: str) -> None:
    assert check_url(url, private=False) == url


def test_http_is_for_home_alone() -> None:
    assert check_url("http://127.0.0.1:9400", private=True)
    with pytest.raises(IssuerRefused):
        check_url("http://127.0.0.1:9400", private=False)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "id.example.com",
        "//id.example.com",
        "https://",
        "https:///path",
        "https://user:secret@id.example.com",
        "https://id.example.com#fragment",
        "https://id.example.com:0",
        "https://id.example.com:99999",
        "https://id.example.com/ ",
        "https://id.example.com\r\nHost: x",
        "https://id.ex\u0430mple.com",
        "https://[",
        "https://id.example.com/" + "x" * 500,
        "file:///etc/passwd",
        "ftp://id.example.com",
    ],
)
def test_anything_else_is_refused(url: str) -> None:
    with pytest.raises(IssuerRefused):
        check_url(url, private=True)
