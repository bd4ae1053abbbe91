"""SQL of people and their recovery codes."""

from typing import LiteralString
from uuid import UUID

from psycopg.errors import UniqueViolation
from psycopg.types.json import Jsonb

from shared.kernel.db import Row, Tx
from shared.people.model import Credentials, EmailTaken, Person

USER_BY_EMAIL: LiteralString = "SELECT user_by_email(%(email)s) AS id"
INSERT_USER: LiteralString = """
    INSERT INTO users (id, email, name, password_hash)
    VALUES (%(id)s, %(email)s, %(name)s, %(password_hash)s) RETURNING *
"""
FIND_USER: LiteralString = "SELECT * FROM users WHERE id = %(id)s"
LOCK_USER: LiteralString = "SELECT * FROM users WHERE id = %(id)s FOR UPDATE"
UPDATE_USER: LiteralString = """
    UPDATE users SET name = coalesce(%(name)s, name), metadata = coalesce(%(metadata)s, metadata), updated_at = now()
     WHERE id = %(id)s RETURNING *
"""
SET_HASH: LiteralString = """
    UPDATE users SET password_hash = %(password_hash)s, updated_at = now() WHERE id = %(id)s
"""
BEGIN_TOTP: LiteralString = """
    UPDATE users SET totp_wrapped = %(wrapped)s, totp_last_step = NULL, updated_at = now()
     WHERE id = %(id)s AND totp_confirmed_at IS NULL
"""
CONFIRM_TOTP: LiteralString = """
    UPDATE users SET totp_confirmed_at = now(), updated_at = now() WHERE id = %(id)s AND totp_confirmed_at IS NULL
"""
REMOVE_TOTP: LiteralString = """
    UPDATE users SET totp_wrapped = NULL, totp_confirmed_at = NULL, totp_last_step = NULL, updated_at = now()
     WHERE id = %(id)s
"""
# Each step counts once, and none before one that counted.
USE_TOTP_STEP: LiteralString = """
    UPDATE users SET totp_last_step = %(step)s
     WHERE id = %(id)s AND (totp_last_step IS NULL OR totp_last_step < %(step)s) RETURNING 1
"""
FORGET_RECOVERY_CODES: LiteralString = "DELETE FROM recovery_codes WHERE user_id = %(id)s"
INSERT_RECOVERY_CODES: LiteralString = """
    INSERT INTO recovery_codes (user_id, sha256) SELECT %(id)s, unnest(%(sha256)s::bytea[])
"""
USE_RECOVERY_CODE: LiteralString = """
    UPDATE recovery_codes SET used_at = now()
     WHERE user_id = %(id)s AND sha256 = %(sha256)s AND used_at IS NULL RETURNING 1
"""


def user_by_email(tx: Tx, email: str) -> UUID | None:
    row = tx.execute(USER_BY_EMAIL, {"email": email}).fetchone()
    return None if row is None else row["id"]


def insert_user(tx: Tx, *, user_id: UUID, email: str, name: str, password_hash: str | None) -> Person:
    values = {"id": user_id, "email": email, "name": name, "password_hash": password_hash}
    try:
        row = tx.execute(INSERT_USER, values).fetchone()
    except UniqueViolation as error:
        if error.diag.constraint_name == "users_email_unique":
            raise EmailTaken("There is an account with this address by now: sign in.", param="email") from error
        raise
    assert row is not None  # noqa: S101 - INSERT … RETURNING
    return _person(row)


def find_user(tx: Tx, user_id: UUID) -> Person | None:
    row = tx.execute(FIND_USER, {"id": user_id}).fetchone()
    return None if row is None else _person(row)


def update_user(tx: Tx, user_id: UUID, *, name: str | None, metadata: dict[str, str] | None) -> Person | None:
    values = {"id": user_id, "name": name, "metadata": None if metadata is None else Jsonb(metadata)}
    row = tx.execute(UPDATE_USER, values).fetchone()
    return None if row is None else _person(row)


def credentials(tx: Tx, user_id: UUID, *, lock: bool = False) -> Credentials | None:
    row = tx.execute(LOCK_USER if lock else FIND_USER, {"id": user_id}).fetchone()
    if row is None:
        return None
    return Credentials(
        user_id=row["id"],
        email=row["email"],
        name=row["name"],
        password_hash=row["password_hash"],
        totp_wrapped=row["totp_wrapped"],
        totp_on=row["totp_confirmed_at"] is not None,
    )


def set_password(tx: Tx, user_id: UUID, password_hash: str) -> None:
    tx.execute(SET_HASH, {"id": user_id, "password_hash": password_hash})


def begin_totp(tx: Tx, user_id: UUID, wrapped: bytes) -> bool:
    return tx.execute(BEGIN_TOTP, {"id": user_id, "wrapped": wrapped}).rowcount == 1


def confirm_totp(tx: Tx, user_id: UUID) -> bool:
    return tx.execute(CONFIRM_TOTP, {"id": user_id}).rowcount == 1


def remove_totp(tx: Tx, user_id: UUID) -> None:
    tx.execute(REMOVE_TOTP, {"id": user_id})
    tx.execute(FORGET_RECOVERY_CODES, {"id": user_id})


def use_totp_step(tx: Tx, user_id: UUID, step: int) -> bool:
    return tx.execute(USE_TOTP_STEP, {"id": user_id, "step": step}).fetchone() is not None


def replace_recovery_codes(tx: Tx, user_id: UUID, hashes: list[bytes]) -> None:
    tx.execute(FORGET_RECOVERY_CODES, {"id": user_id})
    tx.execute(INSERT_RECOVERY_CODES, {"id": user_id, "sha256": hashes})


def use_recovery_code(tx: Tx, user_id: UUID, sha256: bytes) -> bool:
    return tx.execute(USE_RECOVERY_CODE, {"id": user_id, "sha256": sha256}).fetchone() is not None


def _person(row: Row) -> Person:
    return Person(
        id=row["id"],
        email=row["email"],
        name=row["name"],
        has_password=row["password_hash"] is not None,
        has_second_factor=row["totp_confirmed_at"] is not None,
        metadata=row["metadata"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )
