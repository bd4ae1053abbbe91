"""SQL of what agents are shared with whom."""

from typing import Any, LiteralString
from uuid import UUID

from psycopg.errors import ForeignKeyViolation

from shared.agents.model import Access, Grant
from shared.kernel import ids
from shared.kernel.db import Row, Tx
from shared.kernel.errors import NotFound
from shared.kernel.pagination import Slice

COLUMNS: LiteralString = "id, resource_id AS agent_id, team_id, user_id, access, created_by, created_at"
FIND: LiteralString = (
    "SELECT "
    + COLUMNS
    + """ FROM resource_grants
     WHERE resource_type = 'agent' AND resource_id = %(agent_id)s AND id = %(id)s
    """
)
FIND_OF: LiteralString = (
    "SELECT "
    + COLUMNS
    + """ FROM resource_grants
     WHERE resource_type = 'agent' AND resource_id = %(agent_id)s
       AND team_id IS NOT DISTINCT FROM %(team_id)s AND user_id IS NOT DISTINCT FROM %(user_id)s
    """
)
LIST: LiteralString = (
    "SELECT "
    + COLUMNS
    + """ FROM resource_grants
     WHERE resource_type = 'agent' AND resource_id = %(agent_id)s AND (%(before)s::uuid IS NULL OR id < %(before)s)
     ORDER BY id DESC LIMIT %(limit)s
    """
)
PUT: LiteralString = (
    """
    INSERT INTO resource_grants (id, org_id, resource_type, resource_id, team_id, user_id, access, created_by)
    VALUES (%(id)s, current_setting('app.current_org_id')::uuid, 'agent', %(agent_id)s, %(team_id)s, %(user_id)s,
            %(access)s, %(created_by)s)
    ON CONFLICT ON CONSTRAINT resource_grants_once DO UPDATE SET access = excluded.access
    RETURNING """
    + COLUMNS
)
DELETE: LiteralString = "DELETE FROM resource_grants WHERE resource_type = 'agent' AND id = %(id)s"


def find(tx: Tx, agent_id: UUID, grant_id: UUID) -> Grant | None:
    row = tx.execute(FIND, {"agent_id": agent_id, "id": grant_id}).fetchone()
    return None if row is None else _grant(row)


def find_of(tx: Tx, agent_id: UUID, *, team_id: UUID | None, user_id: UUID | None) -> Grant | None:
    """Return what this team or person has been granted."""
    row = tx.execute(FIND_OF, {"agent_id": agent_id, "team_id": team_id, "user_id": user_id}).fetchone()
    return None if row is None else _grant(row)


def list_grants(tx: Tx, agent_id: UUID, asked: Slice) -> list[Grant]:
    values = {"agent_id": agent_id, "before": asked.before, "limit": asked.limit + 1}
    return [_grant(row) for row in tx.execute(LIST, values)]


def put(
    tx: Tx, agent_id: UUID, *, team_id: UUID | None, user_id: UUID | None, access: Access, created_by: str
) -> Grant:
    """Share, or change what it is shared for. Raises `NotFound` unless the team or person is of this org."""
    values: dict[str, Any] = {"id": ids.new(), "agent_id": agent_id, "team_id": team_id, "user_id": user_id}
    try:
        row = tx.execute(PUT, values | {"access": access, "created_by": created_by}).fetchone()
    except ForeignKeyViolation as error:
        if user_id is not None:
            raise NotFound(f"No member has the id {ids.show('user', user_id)}.", param="user_id") from error
        raise NotFound("No team has this id.", param="team_id") from error
    assert row is not None  # noqa: S101 - INSERT … RETURNING
    return _grant(row)


def delete(tx: Tx, grant_id: UUID) -> None:
    tx.execute(DELETE, {"id": grant_id})


def _grant(row: Row) -> Grant:
    return Grant(**(row | {"access": Access(row["access"])}))
