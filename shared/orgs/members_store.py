"""SQL of an org's members."""

from typing import LiteralString
from uuid import UUID

from psycopg.errors import UniqueViolation

from shared.identity.policy import Role
from shared.kernel.db import Row, Tx
from shared.kernel.pagination import Slice
from shared.orgs.model import AlreadyMember, Member
from shared.quotas.model import Look

INSERT: LiteralString = """
    INSERT INTO memberships (org_id, user_id, role)
    VALUES (current_setting('app.current_org_id')::uuid, %(user_id)s, %(role)s)
"""
ROLE: LiteralString = "SELECT role FROM memberships WHERE user_id = %(user_id)s"
LIST: LiteralString = """
    SELECT * FROM members_of_current_org()
     WHERE %(before)s::uuid IS NULL OR user_id < %(before)s
     ORDER BY user_id DESC LIMIT %(limit)s
"""
FIND: LiteralString = "SELECT * FROM members_of_current_org() WHERE user_id = %(user_id)s"
FIND_BY_EMAIL: LiteralString = "SELECT * FROM members_of_current_org() WHERE email = %(email)s"
# Always in the order of ids: two that lock owners and each other wait instead of deadlocking.
LOCK: LiteralString = """
    SELECT user_id, role FROM memberships
     WHERE role = 'owner' OR user_id = %(user_id)s ORDER BY user_id FOR UPDATE
"""
SET_ROLE: LiteralString = "UPDATE memberships SET role = %(role)s, updated_at = now() WHERE user_id = %(user_id)s"
DELETE: LiteralString = "DELETE FROM memberships WHERE user_id = %(user_id)s"
SEATED: LiteralString = """
    SELECT user_id FROM memberships
     WHERE role <> 'viewer'
       AND (%(after)s::uuid IS NULL OR user_id > %(after)s)
       AND (%(among)s::uuid[] IS NULL OR user_id = ANY(%(among)s))
     ORDER BY user_id LIMIT %(limit)s
"""
# Both in rows of the person whose transaction it is.
OWN_ADDRESS: LiteralString = "SELECT email FROM users WHERE id = %(user_id)s"
END_LOCKED_SESSIONS: LiteralString = """
    UPDATE sessions SET ended_at = now(), ended_because = 'left_org'
     WHERE user_id = %(user_id)s AND org_id = %(org_id)s AND org_locked AND ended_at IS NULL
"""


def insert(tx: Tx, *, user_id: UUID, role: Role) -> None:
    try:
        tx.execute(INSERT, {"user_id": user_id, "role": role})
    except UniqueViolation as error:
        if error.diag.constraint_name == "memberships_pkey":
            raise AlreadyMember("This person is a member of the org already.") from error
        raise


def role_of(tx: Tx, user_id: UUID) -> Role | None:
    row = tx.execute(ROLE, {"user_id": user_id}).fetchone()
    return None if row is None else Role(row["role"])


def list_members(tx: Tx, asked: Slice) -> list[Member]:
    return [_member(row) for row in tx.execute(LIST, {"before": asked.before, "limit": asked.limit + 1})]


def find(tx: Tx, user_id: UUID) -> Member | None:
    row = tx.execute(FIND, {"user_id": user_id}).fetchone()
    return None if row is None else _member(row)


def find_by_email(tx: Tx, email: str) -> Member | None:
    row = tx.execute(FIND_BY_EMAIL, {"email": email}).fetchone()
    return None if row is None else _member(row)


def lock(tx: Tx, user_id: UUID) -> tuple[Role | None, frozenset[UUID]]:
    """Hold this member and all owners until the end; return the member's role and who the owners are."""
    roles = {row["user_id"]: Role(row["role"]) for row in tx.execute(LOCK, {"user_id": user_id})}
    return roles.get(user_id), frozenset(each for each, role in roles.items() if role is Role.OWNER)


def set_role(tx: Tx, *, user_id: UUID, role: Role) -> None:
    tx.execute(SET_ROLE, {"user_id": user_id, "role": role})


def delete(tx: Tx, user_id: UUID) -> None:
    tx.execute(DELETE, {"user_id": user_id})


def seated(tx: Tx, look: Look) -> list[UUID]:
    """Return the members who take a seat, in order of their ids."""
    values = {"after": look.after, "among": look.among, "limit": look.limit}
    return [row["user_id"] for row in tx.execute(SEATED, values)]


def own_address(tx: Tx, user_id: UUID) -> str | None:
    """Return the address of the person whose transaction this is."""
    row = tx.execute(OWN_ADDRESS, {"user_id": user_id}).fetchone()
    return None if row is None else str(row["email"])


def end_locked_sessions(tx: Tx, *, user_id: UUID, org_id: UUID) -> None:
    """End the sessions that count in this org alone, of the person whose transaction this is."""
    tx.execute(END_LOCKED_SESSIONS, {"user_id": user_id, "org_id": org_id})


def _member(row: Row) -> Member:
    return Member(**(row | {"role": Role(row["role"])}))
