"""Argon2 and zxcvbn: which passwords are good enough, their hashes, and whether one fits its hash.

Both libraries are imported on first use: most functions that know of people have no layer with them.
"""

import unicodedata
from functools import cache
from typing import TYPE_CHECKING

from shared.people.model import PasswordRefused

if TYPE_CHECKING:
    from argon2 import PasswordHasher

MIN_LENGTH, MAX_LENGTH = 12, 256
# OWASP Password Storage Cheat Sheet, as of 25 June 2026: 19 MiB of memory, 2 iterations, 1 degree of parallelism.
_MEMORY_KIB, _ITERATIONS, _PARALLELISM = 19456, 2, 1
# zxcvbn scores 0 to 4: from 2 on it takes more than a million guesses.
_LEAST_SCORE = 2
# zxcvbn compares a password with itself in every way; more of it would only take longer.
_LOOKED_AT = 72


def check(password: str, *, email: str, name: str) -> None:
    """Raise `PasswordRefused`, saying why, for a password that is among the first to be guessed."""
    if not MIN_LENGTH <= len(password) <= MAX_LENGTH:
        _refuse(f"It must have {MIN_LENGTH} to {MAX_LENGTH} characters.")
    folded = _fold(password)
    own = {_fold(word) for word in (email, email.partition("@")[0], name, *name.split()) if len(word) > 2}
    if folded in own or _bare(folded) in {_bare(word) for word in own}:
        _refuse("It must not be your e-mail address or your name.")
    from zxcvbn import zxcvbn

    found = zxcvbn(folded[:_LOOKED_AT], user_inputs=sorted(own | {_bare(word) for word in own}))
    if found["score"] < _LEAST_SCORE:
        _refuse(found["feedback"]["warning"] or "It is among the first that would be guessed.")


def hash_of(password: str) -> str:
    """Return the Argon2id hash in PHC format, with salt and parameters in it."""
    return _hasher().hash(_normal(password))


def fits(password: str, password_hash: str | None) -> bool:
    """Tell whether the password is the hashed one. It takes as long when there is no hash to compare with."""
    from argon2.exceptions import InvalidHashError, VerificationError

    try:
        matched = _hasher().verify(password_hash or _hash_of_nothing(), _normal(password))
    except (VerificationError, InvalidHashError):
        return False
    return matched and password_hash is not None


def is_outdated(password_hash: str) -> bool:
    """Tell whether the hash was made with other parameters than today's."""
    return _hasher().check_needs_rehash(password_hash)


@cache
def _hasher() -> "PasswordHasher":
    from argon2 import PasswordHasher

    return PasswordHasher(memory_cost=_MEMORY_KIB, time_cost=_ITERATIONS, parallelism=_PARALLELISM)


def _hash_of_nothing() -> str:
    """Return a hash with today's parameters that no password fits."""
    return (
        f"$argon2id$v=19$m={_MEMORY_KIB},t={_ITERATIONS},p={_PARALLELISM}"
        "$cnVueWFyZC1ub2JvZHktMQ$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
    )


def _normal(password: str) -> str:
    # The same password typed on another machine may come composed differently.
    return unicodedata.normalize("NFC", password)


def _fold(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold().strip()


def _bare(text: str) -> str:
    return "".join(character for character in text if character.isalnum())


def _refuse(why: str) -> None:
    raise PasswordRefused(f"Choose another password. {why}", param="password")
