"""E-mail addresses: one spelling for each, so that two spellings are never two people."""

import re
import unicodedata

from shared.kernel.errors import InvalidRequest

_MAX_LENGTH = 254
_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_DOMAIN = re.compile(rf"(?:{_LABEL}\.)+{_LABEL}")
_LOCAL = re.compile(r"[a-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}")


def fold_email(text: str, *, param: str = "email") -> str:
    """Return the form in which addresses are kept and compared: NFC, no blanks around it, lower case.

    The domain may be international, the part before the @ not: SES would refuse it. Raises `InvalidRequest`.
    """
    local, _, domain = unicodedata.normalize("NFC", text).strip().lower().rpartition("@")
    folded = f"{local}@{_ascii(domain)}"
    well_formed = _LOCAL.fullmatch(local) is not None and _DOMAIN.fullmatch(_ascii(domain)) is not None
    if not well_formed or len(folded) > _MAX_LENGTH:
        raise InvalidRequest(f"{param}: not an e-mail address such as grace@example.com.", param=param)
    return folded


def fold_domain(text: str, *, param: str = "domain") -> str:
    """Return a domain in the form it has in folded addresses; raise `InvalidRequest` when it is none."""
    folded = _ascii(unicodedata.normalize("NFC", text).strip().lower())
    if _DOMAIN.fullmatch(folded) is None:
        raise InvalidRequest(f"{param}: not a domain such as example.com.", param=param)
    return folded


def domain_of(email: str) -> str:
    """Return what stands behind the @ of a folded address."""
    return email.rpartition("@")[2]


def reachable(email: str) -> str | None:
    """Return the address; None for a stand-in, kept under `invalid` (RFC 2606), to which no letter can go."""
    return None if domain_of(email) == "invalid" else email


def _ascii(domain: str) -> str:
    """Return the domain in Punycode, empty when it has no such form."""
    try:
        return domain.encode("idna").decode()
    except UnicodeError:
        return ""
