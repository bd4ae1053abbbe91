"""`Idempotency-Key`: the first answer is stored in the transaction of its effect and given again for the same key."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, LiteralString

from psycopg.errors import UniqueViolation
from psycopg.types.json import Jsonb
from pydantic import BaseModel

from shared.kernel import db, ids
from shared.kernel.caller import Caller
from shared.kernel.db import Tx
from shared.kernel.errors import IdempotencyConflict, IdempotencyInFlight, RunyardError

# A reservation whose holder died is taken over after this long: longer than any function runs.
RESERVATION_S = 60

FIND: LiteralString = """
    WITH lock AS (
        SELECT pg_try_advisory_xact_lock(hashtextextended(current_setting('app.current_org_id') || %(key)s, 7)) AS free
    )
    SELECT lock.free, stored.fingerprint, stored.status, stored.body,
           stored.reserved_at < now() - make_interval(secs => %(reservation_s)s) AS expired
      FROM lock LEFT JOIN idempotency_keys stored ON stored.key = %(key)s
"""
STORE: LiteralString = """
    INSERT INTO idempotency_keys (org_id, key, fingerprint, status, body)
    VALUES (current_setting('app.current_org_id')::uuid, %(key)s, %(fingerprint)s, %(status)s, %(body)s)
"""
TAKE_OVER: LiteralString = "UPDATE idempotency_keys SET reserved_at = now() WHERE key = %(key)s"
REOPEN: LiteralString = "UPDATE idempotency_keys SET reserved_at = '-infinity' WHERE key = %(key)s"
FINISH: LiteralString = "UPDATE idempotency_keys SET status = %(status)s, body = %(body)s WHERE key = %(key)s"
# A day is as long as anybody may retry.
PURGE: LiteralString = "DELETE FROM idempotency_keys WHERE reserved_at < now() - interval '1 day' RETURNING 1"
RELEASE: LiteralString = "DELETE FROM idempotency_keys WHERE key = %(key)s AND status IS NULL"


type Secret = set[str] | dict[str, Any]


class Replay(Exception):
    """The request was answered before; carries that answer."""

    def __init__(self, status: int, body: Any) -> None:
        super().__init__("replayed")
        self.status = status
        self.body = body


@dataclass(frozen=True, slots=True)
class Once:
    """One request's claim on its Idempotency-Key; without a key every method just lets the request through."""

    key: str | None
    fingerprint: bytes
    status: int

    def __call__[T: BaseModel](self, tx: Tx, effect: Callable[[], T], *, secret: Secret | None = None) -> T:
        """Run `effect` and store its answer in the same transaction; raise `Replay` when it was done before.

        `secret` names fields (as pydantic's `exclude`) that are shown once and so are missing from a replay.
        """
        if self.key is None:
            return effect()
        if self._found(tx):
            raise IdempotencyInFlight("The first request with this Idempotency-Key is still being answered.")
        answer = effect()
        self._store(tx, status=self.status, body=answer.model_dump(mode="json", exclude=secret))
        return answer

    def around[T: BaseModel](
        self, caller: Caller, effect: Callable[[str], T], *, final: Callable[[T], bool] = lambda _: True
    ) -> T:
        """Run an `effect` that reaches outside the database and opens transactions of its own.

        `effect` is given a source id, the same for the same key and request: sent again after its function was
        killed, the request finds what was done already. When the effect raises, the key is given back. An answer
        that is not `final` is not stored: the same request goes on where it stands, another one is still refused.
        """
        if self.key is None:
            return effect(self.source_id)
        with db.tenant(caller) as tx:
            self.reserve(tx)
        try:
            answer = effect(self.source_id)
        except RunyardError:
            with db.tenant(caller) as tx:
                self.release(tx)
            raise
        with db.tenant(caller) as tx:
            if final(answer):
                self.record(tx, answer)
            else:
                tx.execute(REOPEN, {"key": self.key})
        return answer

    @property
    def source_id(self) -> str:
        """Name the effect: the same for the same key and request, another one each time without a key."""
        if self.key is None:
            return f"api:{ids.new()}"
        return f"api:{hashlib.sha256(self.fingerprint + self.key.encode()).hexdigest()[:32]}"

    def reserve(self, tx: Tx) -> None:
        """Claim the key ahead of an effect that reaches outside the database; `record` or `release` must follow."""
        if self.key is None:
            return
        if self._found(tx):
            tx.execute(TAKE_OVER, {"key": self.key})
        else:
            self._store(tx, status=None, body=None)

    def record(self, tx: Tx, answer: BaseModel) -> None:
        """Store the answer of a reserved key."""
        if self.key is not None:
            body = Jsonb(answer.model_dump(mode="json"))
            tx.execute(FINISH, {"key": self.key, "status": self.status, "body": body})

    def release(self, tx: Tx) -> None:
        """Give a reserved key back, when its effect did not happen."""
        if self.key is not None:
            tx.execute(RELEASE, {"key": self.key})

    def _found(self, tx: Tx) -> bool:
        """Return True for an expired reservation that may be taken over, False for an unused key."""
        row = tx.execute(FIND, {"key": self.key, "reservation_s": RESERVATION_S}).fetchone()
        if row is None or not row["free"]:
            raise IdempotencyInFlight("The first request with this Idempotency-Key is still being answered.")
        if row["fingerprint"] is None:
            return False
        if row["fingerprint"] != self.fingerprint:
            raise IdempotencyConflict("This Idempotency-Key was used with a different request.")
        if row["status"] is not None:
            raise Replay(row["status"], row["body"])
        if not row["expired"]:
            raise IdempotencyInFlight("The first request with this Idempotency-Key is still being answered.")
        return True

    def _store(self, tx: Tx, *, status: int | None, body: dict[str, Any] | None) -> None:
        stored = None if body is None else Jsonb(body)
        try:
            tx.execute(STORE, {"key": self.key, "fingerprint": self.fingerprint, "status": status, "body": stored})
        except UniqueViolation as error:
            raise IdempotencyInFlight("The same request was answered a moment ago; send it again.") from error


def purge(tx: Tx) -> int:
    """Forget the tenant's keys of more than a day ago and return how many."""
    return len(tx.execute(PURGE).fetchall())
