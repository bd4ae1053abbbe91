"""SQL of the keys that sign tokens. They belong to no tenant: any transaction finds them."""

from datetime import datetime
from typing import LiteralString

from psycopg.types.json import Jsonb

from shared.kernel.db import Row, Tx
from shared.tokens.model import SigningKey

_COLUMNS: LiteralString = "kid, public_jwk, signs_from, signs_until, verifies_until"
LIST_KEYS: LiteralString = (
    f"SELECT {_COLUMNS} FROM signing_keys WHERE verifies_until > %(now)s ORDER BY signs_from, kid"
)
PRIVATE_HALF: LiteralString = "SELECT private_wrapped FROM signing_keys WHERE kid = %(kid)s"
# Whoever only reads or verifies goes on; two who would make a key wait for each other.
LOCK: LiteralString = "LOCK TABLE signing_keys IN SHARE ROW EXCLUSIVE MODE"
INSERT_KEY: LiteralString = """
    INSERT INTO signing_keys (kid, public_jwk, private_wrapped, signs_from, signs_until, verifies_until)
    VALUES (%(kid)s, %(public_jwk)s, %(private_wrapped)s, %(signs_from)s, %(signs_until)s, %(verifies_until)s)
"""
RETIRE_KEY: LiteralString = """
    UPDATE signing_keys
       SET signs_until = least(signs_until, %(now)s), verifies_until = least(verifies_until, %(verifies_until)s)
     WHERE kid = %(kid)s
"""
DELETE_KEYS: LiteralString = "DELETE FROM signing_keys WHERE verifies_until <= %(now)s"


def list_keys(tx: Tx, *, now: datetime) -> list[SigningKey]:
    """Return the keys that still verify, those included that sign later."""
    return [_key(row) for row in tx.execute(LIST_KEYS, {"now": now})]


def private_half(tx: Tx, kid: str) -> bytes | None:
    row = tx.execute(PRIVATE_HALF, {"kid": kid}).fetchone()
    return None if row is None else row["private_wrapped"]


def lock(tx: Tx) -> None:
    """Let nobody else make or retire a key until this transaction ends."""
    tx.execute(LOCK)


def insert_key(tx: Tx, key: SigningKey, *, private_wrapped: bytes) -> None:
    tx.execute(
        INSERT_KEY,
        {
            "kid": key.kid,
            "public_jwk": Jsonb(key.public_jwk),
            "private_wrapped": private_wrapped,
            "signs_from": key.signs_from,
            "signs_until": key.signs_until,
            "verifies_until": key.verifies_until,
        },
    )


def retire_key(tx: Tx, kid: str, *, now: datetime, verifies_until: datetime) -> None:
    tx.execute(RETIRE_KEY, {"kid": kid, "now": now, "verifies_until": verifies_until})


def delete_keys(tx: Tx, *, now: datetime) -> int:
    """Delete the keys that verify nothing any more; return how many."""
    return tx.execute(DELETE_KEYS, {"now": now}).rowcount


def _key(row: Row) -> SigningKey:
    return SigningKey(
        kid=row["kid"],
        public_jwk=row["public_jwk"],
        signs_from=row["signs_from"],
        signs_until=row["signs_until"],
        verifies_until=row["verifies_until"],
    )
