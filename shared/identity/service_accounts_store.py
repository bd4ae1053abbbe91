"""SQL of service accounts."""

from typing import Any, LiteralString
from uuid import UUID

from psycopg.types.json import Jsonb

from shared.identity.model import ServiceAccount
from shared.kernel.db import Row, Tx
from shared.kernel.pagination import Slice

INSERT: LiteralString = """
    INSERT INTO service_accounts (id, org_id, name, scopes, metadata, created_by)
    VALUES (%(id)s, current_setting('app.current_org_id')::uuid, %(name)s, %(scopes)s, %(metadata)s, %(created_by)s)
    RETURNING *
"""
FIND: LiteralString = "SELECT * FROM service_accounts WHERE id = %(id)s"
LOCK: LiteralString = FIND + " FOR UPDATE"
LIST: LiteralString = """
    SELECT * FROM service_accounts
     WHERE %(before)s::uuid IS NULL OR id < %(before)s
     ORDER BY id DESC LIMIT %(limit)s
"""
UPDATE: LiteralString = """
    UPDATE service_accounts SET name = %(name)s, scopes = %(scopes)s, metadata = %(metadata)s
     WHERE id = %(id)s RETURNING *
"""
DISABLE: LiteralString = "UPDATE service_accounts SET disabled_at = now() WHERE id = %(id)s RETURNING *"


def insert(
    tx: Tx, *, account_id: UUID, name: str, scopes: frozenset[str], metadata: dict[str, str], created_by: str
) -> ServiceAccount:
    values = {"id": account_id, "name": name, "scopes": sorted(scopes), "metadata": Jsonb(metadata)}
    return _one(tx, INSERT, values | {"created_by": created_by})


def find(tx: Tx, account_id: UUID, *, lock: bool = False) -> ServiceAccount | None:
    row = tx.execute(LOCK if lock else FIND, {"id": account_id}).fetchone()
    return None if row is None else _account(row)


def list_accounts(tx: Tx, asked: Slice) -> list[ServiceAccount]:
    return [_account(row) for row in tx.execute(LIST, {"before": asked.before, "limit": asked.limit + 1})]


def update(tx: Tx, account_id: UUID, *, name: str, scopes: frozenset[str], metadata: dict[str, str]) -> ServiceAccount:
    values = {"id": account_id, "name": name, "scopes": sorted(scopes), "metadata": Jsonb(metadata)}
    return _one(tx, UPDATE, values)


def disable(tx: Tx, account_id: UUID) -> ServiceAccount:
    return _one(tx, DISABLE, {"id": account_id})


def _one(tx: Tx, query: LiteralString, values: dict[str, Any]) -> ServiceAccount:
    row = tx.execute(query, values).fetchone()
    assert row is not None  # noqa: S101 - it is new, or locked before
    return _account(row)


def _account(row: Row) -> ServiceAccount:
    return ServiceAccount(
        id=row["id"],
        name=row["name"],
        scopes=frozenset(row["scopes"]),
        metadata=row["metadata"],
        created_by=row["created_by"],
        created_at=row["created_at"],
        disabled_at=row["disabled_at"],
    )
