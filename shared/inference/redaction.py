"""Strikes personal data out of what is recorded, by patterns: what looks like it goes, what is written otherwise stays.

It finds the usual spellings of e-mail addresses, telephone numbers, payment cards, API keys and bank accounts, in texts
and in the names of fields. It knows no names of people, no addresses of houses, and nothing inside of images.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

# Longest first where one could be a part of another: an account's number holds what looks like a telephone's.
KINDS = ("email", "api_key", "iban", "card", "phone")

_EMAIL = re.compile(r"(?<![\w.+-])[\w.+-]{1,64}@(?:[\w-]{1,63}\.){1,8}\w[\w-]{1,62}(?![\w-])")
# By the beginnings that their issuers gave them; and whatever is sent as a bearer's token.
_API_KEY = re.compile(
    r"\b(?:ry_(?:live|test|refresh)_|sk-|(?:sk|pk|rk)_(?:live|test)_|gh[pousr]_|github_pat_|xox[abprs]-|AIza|hf_|glpat-"
    r"|npm_|pypi-)[A-Za-z0-9_-]{12,}"
    r"|\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"
    r"|\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*"
    r"|(?<=[Bb]earer )[A-Za-z0-9._~+/=-]{16,}"
)
_IBAN = re.compile(r"\b[A-Z]{2}\d{2}(?:[ ]?[A-Z0-9]{4}){2,7}(?:[ ]?[A-Z0-9]{1,4})?\b")
_CARD = re.compile(r"(?<![\d.+])\d{4,19}(?:[ -]\d{2,6}){0,6}(?![\d.]?\d)")
# With a country's code, or grouped as telephone numbers are: a plain row of digits is mostly something else.
_PHONE = re.compile(
    r"(?<![\w.+-])(?:"
    r"\+(?=(?:[ .()-]*\d){8,15}(?![ .()-]*\d))\d{1,3}(?:[ .-]?\(?\d{1,4}\)?){2,6}"
    r"|\(\d{2,5}\)(?:[ .-]?\d{2,5}){2,4}"
    r"|\d{3}[ .-]\d{3}[ .-]\d{4}"
    r")(?![\w-])"
)
_GROUP = re.compile(r"[^ -]+")


def redact(value: Any, kinds: frozenset[str]) -> Any:
    """Return the JSON value with what looks like one of these kinds replaced by its name, e.g. `[email]`."""
    wanted = [_STRIKE[kind] for kind in KINDS if kind in kinds]
    return _redacted(value, wanted) if wanted else value


type _Strike = Callable[[str], str]


def _redacted(value: Any, wanted: list[_Strike]) -> Any:
    match value:
        case str() if not value.startswith("data:"):
            for strike in wanted:
                value = strike(value)
            return value
        case Mapping():
            return {_redacted(name, wanted): _redacted(inner, wanted) for name, inner in value.items()}
        case list() | tuple():
            return [_redacted(inner, wanted) for inner in value]
        case _:
            return value


def _strike(kind: str, pattern: re.Pattern[str], holds: Callable[[str], bool] | None = None) -> _Strike:
    def replaced(found: re.Match[str]) -> str:
        return f"[{kind}]" if holds is None else _without(found[0], kind, holds)

    return lambda text: pattern.sub(replaced, text)


def _without(text: str, kind: str, holds: Callable[[str], bool]) -> str:
    """Replace the longest run of groups that `holds`: what stands beside it may look like a part of it."""
    groups = [found.span() for found in _GROUP.finditer(text)]
    runs = ((first, last) for first, (start, _) in enumerate(groups) for last in range(first, len(groups)))
    for first, last in sorted(runs, key=lambda run: run[0] - run[1]):
        start, end = groups[first][0], groups[last][1]
        if holds(text[start:end]):
            return f"{text[:start]}[{kind}]{_without(text[end:], kind, holds)}"
    return text


def _passes_luhn(text: str) -> bool:
    """Tell whether the last digit is right for a card. Source: ISO/IEC 7812-1, annex B."""
    digits = [int(each) for each in text if each.isdigit()]
    if not 13 <= len(digits) <= 19:
        return False
    doubled = [2 * each - 9 * (each > 4) for each in digits[-2::-2]]
    return (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0


def _is_iban(text: str) -> bool:
    """Tell whether the check digits are right. Source: ISO 13616, by ISO/IEC 7064 (MOD 97-10)."""
    plain = text.replace(" ", "")
    if not (15 <= len(plain) <= 34 and plain[:2].isalpha() and plain[2:4].isdigit()):
        return False
    return int("".join(str(int(each, 36)) for each in plain[4:] + plain[:4])) % 97 == 1


_STRIKE: Mapping[str, _Strike] = {
    "email": _strike("email", _EMAIL),
    "api_key": _strike("api_key", _API_KEY),
    "iban": _strike("iban", _IBAN, _is_iban),
    "card": _strike("card", _CARD, _passes_luhn),
    "phone": _strike("phone", _PHONE),
}
