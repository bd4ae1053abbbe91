"""SQL of the providers that orgs set up."""

from typing import LiteralString
from uuid import UUID

from psycopg.errors import UniqueViolation

from shared.inference.accounts_model import Account, ProviderNameTaken
from shared.inference.config import ProviderKind
from shared.kernel.db import Row, Tx
from shared.kernel.pagination import Slice

_COLUMNS: LiteralString = """
    id, name, kind, base_url, region, models, parameters, secret_arn, key_hint, enabled, created_by, created_at,
    updated_at, rotated_at
"""
INSERT: LiteralString = """
    INSERT INTO inference_providers (id, org_id, name, kind, base_url, region, models, parameters, secret_arn, key_hint,
                                     enabled, created_by, created_at, updated_at, rotated_at)
    VALUES (%(id)s, current_setting('app.current_org_id')::uuid, %(name)s, %(kind)s, %(base_url)s, %(region)s,
            %(models)s, %(parameters)s, %(secret)s, %(key_hint)s, %(enabled)s, %(created_by)s, %(created_at)s,
            %(updated_at)s, %(rotated_at)s)
"""
LIST: LiteralString = f"""
    SELECT {_COLUMNS} FROM inference_providers
     WHERE %(before)s::uuid IS NULL OR id < %(before)s
     ORDER BY id DESC LIMIT %(limit)s
"""
COUNT: LiteralString = "SELECT count(*) AS found FROM inference_providers"
FIND: LiteralString = f"SELECT {_COLUMNS} FROM inference_providers WHERE id = %(id)s"
LOCK: LiteralString = FIND + " FOR UPDATE"
LOCK_NAMED: LiteralString = f"SELECT {_COLUMNS} FROM inference_providers WHERE name = %(name)s FOR UPDATE"
UPDATE: LiteralString = """
    UPDATE inference_providers
       SET models = %(models)s, parameters = %(parameters)s, key_hint = %(key_hint)s, enabled = %(enabled)s,
           rotated_at = %(rotated_at)s, updated_at = now()
     WHERE id = %(id)s
 RETURNING updated_at
"""
DELETE: LiteralString = "DELETE FROM inference_providers WHERE id = %(id)s"
ROUTE_WITH: LiteralString = """
    SELECT name FROM inference_routes
     WHERE EXISTS (SELECT FROM jsonb_array_elements(policy -> 'candidates') candidate
                    WHERE starts_with(candidate ->> 'model', %(prefix)s))
        OR starts_with(policy #>> '{ensemble,judge}', %(prefix)s)
     ORDER BY name LIMIT 1
"""


def insert(tx: Tx, account: Account) -> None:
    """Store a new provider; raise `ProviderNameTaken`."""
    values = {
        "id": account.id,
        "name": account.name,
        "kind": account.kind.value,
        "base_url": account.base_url,
        "region": account.region,
        "created_by": account.created_by,
        "created_at": account.created_at,
        "updated_at": account.updated_at,
        "secret": account.secret,
    }
    try:
        tx.execute(INSERT, values | _changing(account))
    except UniqueViolation as error:
        raise ProviderNameTaken(f"There is a provider named {account.name}.", param="name") from error


def list_accounts(tx: Tx, asked: Slice) -> list[Account]:
    return [_account(row) for row in tx.execute(LIST, {"before": asked.before, "limit": asked.limit + 1})]


def count(tx: Tx) -> int:
    row = tx.execute(COUNT).fetchone()
    return 0 if row is None else int(row["found"])


def find(tx: Tx, provider_id: UUID, *, lock: bool = False) -> Account | None:
    row = tx.execute(LOCK if lock else FIND, {"id": provider_id}).fetchone()
    return None if row is None else _account(row)


def lock_named(tx: Tx, name: str) -> Account | None:
    row = tx.execute(LOCK_NAMED, {"name": name}).fetchone()
    return None if row is None else _account(row)


def update(tx: Tx, account: Account) -> None:
    tx.execute(UPDATE, {"id": account.id} | _changing(account))


def delete(tx: Tx, provider_id: UUID) -> None:
    tx.execute(DELETE, {"id": provider_id})


def route_with(tx: Tx, name: str) -> str | None:
    """Return the name of a route that a provider of this name is in."""
    row = tx.execute(ROUTE_WITH, {"prefix": f"{name}/"}).fetchone()
    return None if row is None else str(row["name"])


def _changing(account: Account) -> dict[str, object]:
    return {
        "models": list(account.models),
        "parameters": list(account.parameters),
        "key_hint": account.key_hint,
        "enabled": account.enabled,
        "rotated_at": account.rotated_at,
    }


def _account(row: Row) -> Account:
    given = dict(row)
    return Account(
        secret=given.pop("secret_arn"),
        kind=ProviderKind(given.pop("kind")),
        models=tuple(given.pop("models")),
        parameters=tuple(given.pop("parameters")),
        **given,
    )
