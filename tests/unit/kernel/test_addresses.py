"""E-mail addresses have one spelling each."""

import pytest

from shared.kernel.addresses import domain_of, fold_domain, fold_email, reachable
from shared.kernel.errors import InvalidRequest


@pytest.mark.parametrize(
    ("given", "folded"),
    [
        (" Grace@Example.COM\n", "grace@example.com"),
        ("o'neill+x@mail.example.org", "o'neill+x@mail.example.org"),
        ("a@mu\u0308ller.de", "a@xn--mller-kva.de"),
        ("a@m\u00fcller.de", "a@xn--mller-kva.de"),
    ],
)
def test_spellings_of_one_address_are_one(given: str, folded: str) -> None:
    assert fold_email(given) == folded
    assert fold_email(folded) == folded
    assert fold_domain(domain_of(folded)) == domain_of(folded)


@pytest.mark.parametrize(
    "wrong",
    [
        *("", "a", "@example.com", "a@", "a@example", "a b@example.com", "a@b@example.com", "<a@example.com>"),
        *("a@-x.com", "a@.com", "a@x..com", "a@" + "x" * 64 + ".com", "a@" + "xx." * 90 + "com"),
        *("\u0430@example.com", "a\r\nBcc: b@example.com", "a@example.com\r\nx", "a\x00@example.com"),
        *("a,b@example.com", "x" * 65 + "@example.com"),
    ],
)
def test_what_is_no_address_is_refused(wrong: str) -> None:
    with pytest.raises(InvalidRequest):
        fold_email(wrong)


def test_nobody_writes_to_a_stand_in() -> None:
    assert reachable("x.sso.org_y@invalid") is None
    assert reachable("a@invalid.example.com") == "a@invalid.example.com"
    with pytest.raises(InvalidRequest):
        fold_email("x.sso.org_y@invalid")
