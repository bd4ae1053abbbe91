"""SQL of routes."""

from typing import LiteralString
from uuid import UUID

from psycopg.errors import UniqueViolation
from psycopg.types.json import Jsonb

from shared.inference.config_store import policy_of, route_of
from shared.inference.policy import Route
from shared.inference.routes_model import RouteNameTaken, StoredRoute
from shared.kernel.db import Row, Tx
from shared.kernel.pagination import Slice

_COLUMNS: LiteralString = "id, name, policy, version, created_by, created_at, updated_at"
INSERT: LiteralString = f"""
    INSERT INTO inference_routes (id, org_id, name, policy, created_by)
    VALUES (%(id)s, current_setting('app.current_org_id')::uuid, %(name)s, %(policy)s, %(created_by)s)
    RETURNING {_COLUMNS}
"""
LIST: LiteralString = f"""
    SELECT {_COLUMNS} FROM inference_routes
     WHERE %(before)s::uuid IS NULL OR id < %(before)s
     ORDER BY id DESC LIMIT %(limit)s
"""
COUNT: LiteralString = "SELECT count(*) AS found FROM inference_routes"
FIND: LiteralString = f"SELECT {_COLUMNS} FROM inference_routes WHERE id = %(id)s"
LOCK: LiteralString = FIND + " FOR UPDATE"
REPLACE: LiteralString = f"""
    UPDATE inference_routes SET name = %(name)s, policy = %(policy)s, version = version + 1, updated_at = now()
     WHERE id = %(id)s RETURNING {_COLUMNS}
"""
DELETE: LiteralString = "DELETE FROM inference_routes WHERE id = %(id)s"


def insert(tx: Tx, *, route_id: UUID, route: Route, created_by: str) -> StoredRoute:
    """Store a new route; raise `RouteNameTaken`."""
    return _written(tx, INSERT, route_id, route, created_by=created_by)


def list_routes(tx: Tx, asked: Slice) -> list[StoredRoute]:
    return [_route(row) for row in tx.execute(LIST, {"before": asked.before, "limit": asked.limit + 1})]


def count(tx: Tx) -> int:
    row = tx.execute(COUNT).fetchone()
    return 0 if row is None else int(row["found"])


def find(tx: Tx, route_id: UUID, *, lock: bool = False) -> StoredRoute | None:
    row = tx.execute(LOCK if lock else FIND, {"id": route_id}).fetchone()
    return None if row is None else _route(row)


def replace(tx: Tx, *, route_id: UUID, route: Route) -> StoredRoute:
    """Store the route's next version; raise `RouteNameTaken`."""
    return _written(tx, REPLACE, route_id, route)


def delete(tx: Tx, route_id: UUID) -> None:
    tx.execute(DELETE, {"id": route_id})


def _written(tx: Tx, statement: LiteralString, route_id: UUID, route: Route, **values: str) -> StoredRoute:
    given = {"id": route_id, "name": route.name, "policy": Jsonb(policy_of(route)), **values}
    try:
        row = tx.execute(statement, given).fetchone()
    except UniqueViolation as error:
        raise RouteNameTaken(f"There is a route named {route.name}.", param="name") from error
    assert row is not None  # noqa: S101 - INSERT … RETURNING, and UPDATE of a row that is locked
    return _route(row)


def _route(row: Row) -> StoredRoute:
    return StoredRoute(
        id=row["id"],
        route=route_of(row["name"], row["policy"]),
        version=row["version"],
        created_by=row["created_by"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )
