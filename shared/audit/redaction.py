"""What of a change may be kept in the audit trail: no secret, and no more than can be read."""

import json
import re
from itertools import pairwise
from typing import Any

REDACTED = "[redacted]"
MAX_TEXT = 2_000
MAX_BYTES = 16_384
_MAX_DEPTH = 12

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
# A name with one of these words in it names a secret.
_SECRET_WORDS = frozenset(
    {
        "authorization", "bearer", "cookie", "credential", "credentials", "jwt", "otp", "passphrase", "passwd",
        "password", "passwords", "pin", "secret", "secrets", "signature", "token", "totp",
    }
)  # fmt: skip
# As do these, as they stand.
_SECRET_NAMES = frozenset({"apikey", "code", "codes", "key", "nonce", "otpauth", "verifier"})
# And these two words beside each other.
_SECRET_PAIRS = frozenset(
    {
        ("access", "key"), ("api", "key"), ("client", "key"), ("code", "verifier"), ("encryption", "key"),
        ("private", "key"), ("recovery", "code"), ("recovery", "codes"), ("signing", "key"),
    }
)  # fmt: skip
# Whatever it is called: a key or refresh token of ours, a JSON Web Token, a private key.
_SECRET_TEXT = re.compile(
    r"\bry_(?:live|test|refresh)_[A-Za-z0-9_-]{16,}"
    r"|\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*"
)


def cleaned(facts: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return the facts with secrets replaced by `[redacted]` and long text cut; only their size where they are huge."""
    if facts is None:
        return None
    kept = {name: _kept(name, value, 1) for name, value in facts.items()}
    size = len(json.dumps(kept, ensure_ascii=False, default=str).encode())
    return kept if size <= MAX_BYTES else {"truncated": True, "bytes": size, "fields": sorted(kept)[:50]}


def is_secret(name: str) -> bool:
    """Tell whether a field of this name is likely to hold a secret. `max_tokens` is one only where it is no number."""
    words = _words(name)
    return "tokens" in words or _is_secret(words)


def _words(name: str) -> list[str]:
    return [word.lower() for word in _WORD.findall(name)]


def _is_secret(words: list[str]) -> bool:
    return (
        not _SECRET_WORDS.isdisjoint(words)
        or "".join(words) in _SECRET_NAMES
        or any(pair in _SECRET_PAIRS for pair in pairwise(words))
    )


def _kept(name: str, value: Any, depth: int) -> Any:
    if isinstance(value, bool) or value is None:
        return value
    counts = isinstance(value, int | float) and not _is_secret(_words(name))
    if is_secret(name) and not counts:
        return REDACTED
    return _within(value, depth)


def _within(value: Any, depth: int) -> Any:
    if depth > _MAX_DEPTH:
        return "[too deep]"
    match value:
        case str():
            text = _SECRET_TEXT.sub(REDACTED, value)
            return text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}… ({len(text)} characters)"
        case dict():
            return {str(key): _kept(str(key), item, depth + 1) for key, item in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_within(item, depth + 1) for item in value]
        case _:
            return value
