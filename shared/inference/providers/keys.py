"""Providers' keys: from Secrets Manager, at most five minutes old, and never to be seen by `repr`."""

import asyncio
import time
from typing import Final

from shared.kernel import secrets

# How often at most a key that is refused is looked up anew: most are simply wrong.
_ANEW_EVERY_S: Final = 10.0
_read_anew: dict[str, float] = {}


class Key(str):
    """A key as text, which shows nothing of itself in tracebacks, logs and debuggers."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "Key('[redacted]')"


async def read(secret_arn: str) -> Key:
    """Return the secret's text, empty without an ARN; only what isn't kept costs a thread and a round trip."""
    if not secret_arn:
        return Key()
    kept = secrets.kept(secret_arn)
    return Key(await asyncio.to_thread(secrets.read, secret_arn) if kept is None else kept)


async def read_anew(secret_arn: str, *, refused: str) -> Key | None:
    """Return the key that took the place of one that a provider refuses; None if there is none.

    A rotated key is found at once by this, rather than after the five minutes for which its predecessor is kept.
    """
    if not secret_arn:
        return None
    if secrets.kept(secret_arn) == refused:
        now = time.monotonic()
        if now - _read_anew.get(secret_arn, -_ANEW_EVERY_S) < _ANEW_EVERY_S:
            return None
        _read_anew[secret_arn] = now
        secrets.forget(secret_arn)
    found = await read(secret_arn)
    return None if found == refused else found
