"""Providers' keys: from Secrets Manager, at most five minutes old, and never to be seen by `repr`."""

import asyncio
import time
from typing import Final

from shared.inference.errors import ProviderMisconfigured
from shared.kernel import secrets
from shared.kernel.errors import Unavailable

# How often at most a key that is refused is looked up anew: most are simply wrong.
_ANEW_EVERY_S: Final = 10.0
# With these Secrets Manager says that there is no such secret, or that it is being deleted.
_GONE: Final = frozenset({"ResourceNotFoundException", "InvalidRequestException"})
_read_anew: dict[str, float] = {}


class Key(str):
    """A key as text, which shows nothing of itself in tracebacks, logs and debuggers."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "Key('[redacted]')"


async def read(secret_arn: str) -> Key:
    """Return the secret's text, empty without an ARN; only what isn't kept costs a thread and a round trip.

    Raises `ProviderMisconfigured` for a secret that isn't there, and `Unavailable` when it can't be read just now.
    """
    if not secret_arn:
        return Key()
    kept = secrets.kept(secret_arn)
    return Key(await asyncio.to_thread(_read, secret_arn) if kept is None else kept)


def _read(secret_arn: str) -> str:
    from botocore.exceptions import BotoCoreError, ClientError

    # From None: what botocore raises may hold the request.
    try:
        return secrets.read(secret_arn)
    except ClientError as error:
        if error.response.get("Error", {}).get("Code") in _GONE:
            raise ProviderMisconfigured("The provider's key is no longer there; rotate it or delete it.") from None
        raise Unavailable("The provider's key can't be read just now; try again shortly.", retry_after_s=1) from None
    except BotoCoreError:
        raise Unavailable("The provider's key can't be read just now; try again shortly.", retry_after_s=1) from None


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
