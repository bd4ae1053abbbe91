"""A request's Idempotency-Key, for effects that are awaited: claimed before, kept or given back after."""

import asyncio
import hashlib
from dataclasses import dataclass
from typing import Any

from pydantic import RootModel

from shared.kernel import db
from shared.kernel.caller import Caller
from shared.kernel.errors import InvalidRequest
from shared.kernel.idempotency import Once

_MAX_KEY_LENGTH = 255


class _Stored(RootModel[dict[str, Any]]):
    pass


@dataclass(slots=True)
class Claim:
    """What `idempotency.Once.around` does, in steps. Without a key every one of them does nothing."""

    caller: Caller
    once: Once
    source_id: str
    # What the first request was answered with ends the claim: it must not be given back by a mistake that follows.
    _open: bool = False

    @classmethod
    def read(cls, caller: Caller, *, key: str | None, target: str, raw: bytes) -> "Claim":
        """Return the claim of a request to `target`, e.g. `POST /v1/embeddings?`; raise `InvalidRequest`."""
        if key is None:
            once = Once(key=None, fingerprint=b"", status=200)
            return cls(caller, once, once.source_id)
        if not (0 < len(key) <= _MAX_KEY_LENGTH and key.isprintable()):
            raise InvalidRequest(
                f"Idempotency-Key must be 1 to {_MAX_KEY_LENGTH} printable characters.", param="Idempotency-Key"
            )
        # The actor is part of it: nobody is given an answer that was another's.
        digest = hashlib.sha256(f"{caller.actor_id} {target}\n".encode())
        digest.update(raw)
        once = Once(key=key, fingerprint=digest.digest(), status=200)
        return cls(caller, once, once.source_id)

    @property
    def repeatable(self) -> bool:
        return self.once.key is not None

    async def reserve(self) -> None:
        """Claim the key; raise `Replay` with the first answer, `IdempotencyConflict` or `IdempotencyInFlight`."""
        if self.repeatable:
            await asyncio.to_thread(self._reserve)
            self._open = True

    async def record(self, answer: dict[str, Any]) -> None:
        """Keep the answer for the next request with this key."""
        if self._open:
            self._open = False
            await asyncio.to_thread(self._record, answer)

    async def release(self) -> None:
        """Give the key back, unless an answer was kept."""
        if self._open:
            self._open = False
            await asyncio.to_thread(self._release)

    def _reserve(self) -> None:
        with db.tenant(self.caller) as tx:
            self.once.reserve(tx)

    def _record(self, answer: dict[str, Any]) -> None:
        with db.tenant(self.caller) as tx:
            self.once.record(tx, _Stored(answer))

    def _release(self) -> None:
        with db.tenant(self.caller) as tx:
            self.once.release(tx)
