"""SQL of API keys."""

from datetime import datetime
from typing import LiteralString
from uuid import UUID

from psycopg.types.json import Jsonb

from shared.identity.model import ApiKey, KeyMode, KeySecret
from shared.kernel.db import Row, Tx
from shared.kernel.pagination import Slice

INSERT_OPERATOR_ORG: LiteralString = """
    INSERT INTO orgs (id, name, slug, plan) VALUES (%(id)s, 'Operator', 'operator', 'operator') ON CONFLICT DO NOTHING
"""
INSERT_KEY: LiteralString = """
    INSERT INTO api_keys (id, org_id, name, mode, hint, secret_sha256, role, scopes, metadata, expires_at,
                          rate_limit_per_minute, service_account_id)
    VALUES (%(id)s, %(org_id)s, %(name)s, %(mode)s, %(hint)s, %(sha256)s, %(role)s, %(scopes)s, %(metadata)s,
            %(expires_at)s, %(rate_limit_per_minute)s, %(service_account_id)s)
    RETURNING *
"""
LIST_KEYS: LiteralString = """
    SELECT * FROM api_keys
     WHERE (%(before)s::uuid IS NULL OR id < %(before)s)
       AND (%(service_account_id)s::uuid IS NULL OR service_account_id = %(service_account_id)s)
     ORDER BY id DESC LIMIT %(limit)s
"""
FIND_KEY: LiteralString = "SELECT * FROM api_keys WHERE id = %(id)s"
LOCK_KEY: LiteralString = FIND_KEY + " FOR UPDATE"
REPLACE_KEY: LiteralString = """
    UPDATE api_keys SET expires_at = %(expires_at)s, replaced_by = %(replaced_by)s WHERE id = %(id)s
"""
HAS_KEY: LiteralString = "SELECT FROM api_keys WHERE secret_sha256 = %(sha256)s"
REVOKE_KEY: LiteralString = "UPDATE api_keys SET revoked_at = coalesce(revoked_at, now()) WHERE id = %(id)s RETURNING *"
REVOKE_OTHER_OPERATORS: LiteralString = """
    UPDATE api_keys SET revoked_at = now()
     WHERE role = 'operator' AND secret_sha256 <> %(sha256)s AND revoked_at IS NULL
"""
BEARER: LiteralString = "SELECT * FROM api_key_by_secret(%(sha256)s)"
BEARER_OF_SESSION: LiteralString = "SELECT * FROM bearer_of_session(%(session_id)s, %(user_id)s, %(org_id)s)"
TOUCH_KEY: LiteralString = """
    UPDATE api_keys SET last_used_at = now()
     WHERE id = %(id)s AND (last_used_at IS NULL OR last_used_at < now() - interval '1 minute')
"""


def ensure_operator_org(tx: Tx, org_id: UUID) -> None:
    tx.execute(INSERT_OPERATOR_ORG, {"id": org_id})


def insert_key(
    tx: Tx,
    *,
    key_id: UUID,
    org_id: UUID,
    name: str,
    secret: KeySecret,
    role: str,
    scopes: frozenset[str],
    expires_at: datetime | None,
    metadata: dict[str, str],
    rate_limit_per_minute: int | None,
    service_account_id: UUID | None,
) -> ApiKey:
    row = tx.execute(
        INSERT_KEY,
        {
            "id": key_id,
            "org_id": org_id,
            "name": name,
            "mode": secret.mode,
            "hint": secret.hint,
            "sha256": secret.sha256,
            "role": role,
            "scopes": sorted(scopes),
            "metadata": Jsonb(metadata),
            "expires_at": expires_at,
            "rate_limit_per_minute": rate_limit_per_minute,
            "service_account_id": service_account_id,
        },
    ).fetchone()
    assert row is not None  # noqa: S101 - INSERT … RETURNING
    return _key(row)


def has_key(tx: Tx, sha256: bytes) -> bool:
    return tx.execute(HAS_KEY, {"sha256": sha256}).fetchone() is not None


def list_keys(tx: Tx, asked: Slice, *, service_account_id: UUID | None) -> list[ApiKey]:
    values = {"before": asked.before, "limit": asked.limit + 1, "service_account_id": service_account_id}
    rows = tx.execute(LIST_KEYS, values)
    return [_key(row) for row in rows]


def find_key(tx: Tx, key_id: UUID, *, lock: bool = False) -> ApiKey | None:
    row = tx.execute(LOCK_KEY if lock else FIND_KEY, {"id": key_id}).fetchone()
    return None if row is None else _key(row)


def revoke_key(tx: Tx, key_id: UUID) -> ApiKey | None:
    row = tx.execute(REVOKE_KEY, {"id": key_id}).fetchone()
    return None if row is None else _key(row)


def replace_key(tx: Tx, key_id: UUID, *, replaced_by: UUID, expires_at: datetime) -> None:
    tx.execute(REPLACE_KEY, {"id": key_id, "replaced_by": replaced_by, "expires_at": expires_at})


def revoke_other_operators(tx: Tx, sha256: bytes) -> None:
    tx.execute(REVOKE_OTHER_OPERATORS, {"sha256": sha256})


def bearer(tx: Tx, sha256: bytes) -> Row | None:
    """Return the key with this hash, alive or not, with its org's plan: whatever its tenant."""
    return tx.execute(BEARER, {"sha256": sha256}).fetchone()


def bearer_of_session(tx: Tx, *, session_id: UUID, user_id: UUID, org_id: UUID) -> Row | None:
    """Return role, plan and the state of the session, or None when there is none or its person isn't in this org."""
    return tx.execute(BEARER_OF_SESSION, {"session_id": session_id, "user_id": user_id, "org_id": org_id}).fetchone()


def touch_key(tx: Tx, key_id: UUID) -> None:
    tx.execute(TOUCH_KEY, {"id": key_id})


def _key(row: Row) -> ApiKey:
    return ApiKey(
        id=row["id"],
        mode=KeyMode(row["mode"]),
        name=row["name"],
        hint=row["hint"],
        role=row["role"],
        scopes=frozenset(row["scopes"]),
        metadata=row["metadata"],
        rate_limit_per_minute=row["rate_limit_per_minute"],
        service_account_id=row["service_account_id"],
        replaced_by=row["replaced_by"],
        created_at=row["created_at"],
        last_used_at=row["last_used_at"],
        expires_at=row["expires_at"],
        revoked_at=row["revoked_at"],
    )
