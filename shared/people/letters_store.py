"""SQL of letters."""

from datetime import timedelta
from typing import Any, LiteralString
from uuid import UUID

from psycopg.types.json import Jsonb

from shared.kernel.db import Row, Tx
from shared.people.model import Letter

INSERT_LETTER: LiteralString = """
    INSERT INTO letters (id, user_id, purpose, email, params, expires_at)
    VALUES (%(id)s, %(user_id)s, %(purpose)s, %(email)s, %(params)s, now() + %(lifetime)s)
"""
FIND_LETTER: LiteralString = "SELECT * FROM letters WHERE id = %(id)s"
LOCK_LETTER: LiteralString = "SELECT * FROM letters WHERE id = %(id)s FOR UPDATE"
LETTER_OF_LINK: LiteralString = "SELECT * FROM letter_by_secret(%(sha256)s)"
MARK_SENT: LiteralString = "UPDATE letters SET sent_at = now(), sha256 = %(sha256)s WHERE id = %(id)s"
# What the letter carried is of no use any more, such as the hash of the password to be.
USE_LETTER: LiteralString = """
    UPDATE letters SET used_at = now(), params = '{}' WHERE id = %(id)s AND used_at IS NULL RETURNING 1
"""
USE_ALL: LiteralString = """
    UPDATE letters SET used_at = now(), params = '{}' WHERE purpose = %(purpose)s AND used_at IS NULL
"""
DELETE_LETTER: LiteralString = "DELETE FROM letters WHERE id = %(id)s"
UNSENT_NOTICES: LiteralString = "SELECT id FROM letters WHERE purpose = 'notice' AND sent_at IS NULL"
UNSENT_LETTERS: LiteralString = "SELECT id, user_id FROM unsent_letters(%(older_than)s)"
USERS_WITH_EXPIRED: LiteralString = "SELECT users_with_expired_letters() AS id"
DELETE_EXPIRED: LiteralString = "DELETE FROM letters WHERE expires_at < now() - interval '1 day' RETURNING 1"


def insert_letter(
    tx: Tx,
    *,
    letter_id: UUID,
    user_id: UUID,
    purpose: str,
    email: str,
    params: dict[str, Any],
    lifetime: timedelta,
) -> None:
    values = {"id": letter_id, "user_id": user_id, "purpose": purpose, "email": email, "lifetime": lifetime}
    tx.execute(INSERT_LETTER, values | {"params": Jsonb(params)})


def find_letter(tx: Tx, letter_id: UUID, *, lock: bool = False) -> Letter | None:
    row = tx.execute(LOCK_LETTER if lock else FIND_LETTER, {"id": letter_id}).fetchone()
    return None if row is None else _letter(row)


def letter_by_secret(tx: Tx, sha256: bytes) -> tuple[UUID, UUID] | None:
    """Return the id of the letter with this secret and whose it is, whatever became of it."""
    row = tx.execute(LETTER_OF_LINK, {"sha256": sha256}).fetchone()
    return None if row is None else (row["id"], row["user_id"])


def mark_sent(tx: Tx, letter_id: UUID, sha256: bytes | None) -> None:
    tx.execute(MARK_SENT, {"id": letter_id, "sha256": sha256})


def use_letter(tx: Tx, letter_id: UUID) -> bool:
    return tx.execute(USE_LETTER, {"id": letter_id}).fetchone() is not None


def use_all(tx: Tx, purpose: str) -> None:
    tx.execute(USE_ALL, {"purpose": purpose})


def delete_letter(tx: Tx, letter_id: UUID) -> None:
    tx.execute(DELETE_LETTER, {"id": letter_id})


def unsent_notices(tx: Tx) -> list[UUID]:
    return [row["id"] for row in tx.execute(UNSENT_NOTICES)]


def unsent_letters(tx: Tx, older_than: timedelta) -> list[tuple[UUID, UUID]]:
    """Return id and person of letters that wait for longer than they should."""
    return [(row["id"], row["user_id"]) for row in tx.execute(UNSENT_LETTERS, {"older_than": older_than})]


def users_with_expired(tx: Tx) -> list[UUID]:
    return [row["id"] for row in tx.execute(USERS_WITH_EXPIRED)]


def delete_expired(tx: Tx) -> int:
    return len(tx.execute(DELETE_EXPIRED).fetchall())


def _letter(row: Row) -> Letter:
    return Letter(
        id=row["id"],
        user_id=row["user_id"],
        purpose=row["purpose"],
        email=row["email"],
        params=row["params"],
        sent_at=row["sent_at"],
        used_at=row["used_at"],
        expires_at=row["expires_at"],
    )
