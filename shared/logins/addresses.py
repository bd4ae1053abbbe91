"""Where an issuer may be: https at a public address."""

from shared.kernel.public_addresses import LONGEST_URL, has_allowed_scheme, is_allowed, is_plain
from shared.logins.model import IssuerRefused


def check_url(url: str, *, private: bool) -> str:
    """Return the URL; raise `IssuerRefused` unless it is https (or, with `private`, http) and plain."""
    if not is_plain(url):
        raise IssuerRefused(
            f"The issuer's addresses must be plain URLs of at most {LONGEST_URL} characters.", param="issuer"
        )
    if not has_allowed_scheme(url, private=private):
        raise IssuerRefused("The issuer must be reached by https.", param="issuer")
    return url


def check_address(text: str, *, private: bool) -> str:
    """Return the address; raise `IssuerRefused` unless it is a public one, or with `private` one of a local network."""
    if not is_allowed(text, private=private):
        raise IssuerRefused("The issuer is not at a public address.", param="issuer")
    return text
