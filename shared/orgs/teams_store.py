"""SQL of teams and who is in them."""

from typing import LiteralString
from uuid import UUID

from psycopg.errors import ForeignKeyViolation, UniqueViolation
from psycopg.types.json import Jsonb

from shared.kernel import ids
from shared.kernel.db import Row, Tx
from shared.kernel.errors import NotFound
from shared.kernel.pagination import Slice
from shared.orgs.model import Team, TeamMember, TeamNameTaken

_COLUMNS: LiteralString = "id, name, metadata, created_at, updated_at"
INSERT: LiteralString = f"""
    INSERT INTO teams (id, org_id, name, metadata)
    VALUES (%(id)s, current_setting('app.current_org_id')::uuid, %(name)s, %(metadata)s)
    RETURNING {_COLUMNS}
"""
LIST: LiteralString = f"""
    SELECT {_COLUMNS} FROM teams
     WHERE %(before)s::uuid IS NULL OR id < %(before)s
     ORDER BY id DESC LIMIT %(limit)s
"""
FIND: LiteralString = f"SELECT {_COLUMNS} FROM teams WHERE id = %(id)s"
LOCK: LiteralString = FIND + " FOR UPDATE"
UPDATE: LiteralString = f"""
    UPDATE teams SET name = %(name)s, metadata = %(metadata)s, updated_at = now()
     WHERE id = %(id)s RETURNING {_COLUMNS}
"""
DELETE: LiteralString = "DELETE FROM teams WHERE id = %(id)s"
ADD: LiteralString = """
    INSERT INTO team_members (org_id, team_id, user_id)
    VALUES (current_setting('app.current_org_id')::uuid, %(team_id)s, %(user_id)s)
    ON CONFLICT DO NOTHING RETURNING 1
"""
REMOVE: LiteralString = "DELETE FROM team_members WHERE team_id = %(team_id)s AND user_id = %(user_id)s RETURNING 1"
_MEMBERS: LiteralString = """
    SELECT belongs.user_id, person.name, person.email, belongs.created_at
      FROM team_members belongs JOIN members_of_current_org() person USING (user_id)
     WHERE belongs.team_id = %(team_id)s
"""
LIST_MEMBERS: LiteralString = (
    _MEMBERS
    + " AND (%(before)s::uuid IS NULL OR belongs.user_id < %(before)s) ORDER BY belongs.user_id DESC LIMIT %(limit)s"
)
FIND_MEMBER: LiteralString = _MEMBERS + " AND belongs.user_id = %(user_id)s"


def insert(tx: Tx, *, team_id: UUID, name: str, metadata: dict[str, str]) -> Team:
    return _written(tx, INSERT, {"id": team_id, "name": name, "metadata": Jsonb(metadata)})


def list_teams(tx: Tx, asked: Slice) -> list[Team]:
    return [Team(**row) for row in tx.execute(LIST, {"before": asked.before, "limit": asked.limit + 1})]


def find(tx: Tx, team_id: UUID, *, lock: bool = False) -> Team | None:
    row = tx.execute(LOCK if lock else FIND, {"id": team_id}).fetchone()
    return None if row is None else Team(**row)


def update(tx: Tx, team_id: UUID, *, name: str, metadata: dict[str, str]) -> Team:
    return _written(tx, UPDATE, {"id": team_id, "name": name, "metadata": Jsonb(metadata)})


def delete(tx: Tx, team_id: UUID) -> None:
    tx.execute(DELETE, {"id": team_id})


def add(tx: Tx, *, team_id: UUID, user_id: UUID) -> bool:
    """Return whether the member was not in the team before; raise `NotFound` without such a member or team."""
    try:
        return tx.execute(ADD, {"team_id": team_id, "user_id": user_id}).fetchone() is not None
    except ForeignKeyViolation as error:
        raise NotFound.of("member", ids.show("user", user_id)) from error


def remove(tx: Tx, *, team_id: UUID, user_id: UUID) -> bool:
    """Return whether the member was in the team."""
    return tx.execute(REMOVE, {"team_id": team_id, "user_id": user_id}).fetchone() is not None


def list_members(tx: Tx, team_id: UUID, asked: Slice) -> list[TeamMember]:
    values = {"team_id": team_id, "before": asked.before, "limit": asked.limit + 1}
    return [TeamMember(**row) for row in tx.execute(LIST_MEMBERS, values)]


def find_member(tx: Tx, *, team_id: UUID, user_id: UUID) -> TeamMember | None:
    row = tx.execute(FIND_MEMBER, {"team_id": team_id, "user_id": user_id}).fetchone()
    return None if row is None else TeamMember(**row)


def _written(tx: Tx, statement: LiteralString, values: dict[str, object]) -> Team:
    try:
        row: Row | None = tx.execute(statement, values).fetchone()
    except UniqueViolation as error:
        if error.diag.constraint_name == "teams_name_unique":
            raise TeamNameTaken(f"There is a team {values['name']} already.", param="name") from error
        raise
    assert row is not None  # noqa: S101 - INSERT … RETURNING, and UPDATE of a row that is locked
    return Team(**row)
