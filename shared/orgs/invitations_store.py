"""SQL of invitations."""

from datetime import datetime
from typing import LiteralString
from uuid import UUID

from psycopg.errors import UniqueViolation

from shared.identity.policy import Role
from shared.kernel.db import Row, Tx
from shared.kernel.pagination import Slice
from shared.orgs.model import AlreadyInvited, Invitation

_COLUMNS: LiteralString = "id, email, role, invited_by, created_at, sent_at, accepted_at, revoked_at, expires_at"
INSERT: LiteralString = f"""
    INSERT INTO invitations (id, org_id, email, role, invited_by, expires_at)
    VALUES (%(id)s, current_setting('app.current_org_id')::uuid, %(email)s, %(role)s, %(invited_by)s, %(expires_at)s)
    RETURNING {_COLUMNS}
"""
PUT_AWAY_EXPIRED: LiteralString = """
    UPDATE invitations SET revoked_at = now()
     WHERE email = %(email)s AND accepted_at IS NULL AND revoked_at IS NULL AND expires_at <= now()
"""
COUNT_OF_A_DAY: LiteralString = """
    SELECT count(*) AS invited FROM invitations WHERE created_at > now() - interval '1 day'
"""
LIST: LiteralString = f"""
    SELECT {_COLUMNS} FROM invitations
     WHERE %(before)s::uuid IS NULL OR id < %(before)s
     ORDER BY id DESC LIMIT %(limit)s
"""
FIND: LiteralString = f"SELECT {_COLUMNS} FROM invitations WHERE id = %(id)s"
LOCK: LiteralString = FIND + " FOR UPDATE"
# One that another consumer is sending this moment is passed over.
LOCK_UNSENT: LiteralString = f"""
    SELECT {_COLUMNS} FROM invitations
     WHERE id = %(id)s AND sent_at IS NULL AND accepted_at IS NULL AND revoked_at IS NULL AND expires_at > now()
       FOR UPDATE SKIP LOCKED
"""
SENT: LiteralString = "UPDATE invitations SET sent_at = now(), sha256 = %(sha256)s WHERE id = %(id)s"
SEND_AGAIN: LiteralString = f"""
    UPDATE invitations SET sent_at = NULL, sha256 = NULL, expires_at = %(expires_at)s
     WHERE id = %(id)s RETURNING {_COLUMNS}
"""
REVOKE: LiteralString = f"""
    UPDATE invitations SET revoked_at = now(), sha256 = NULL WHERE id = %(id)s RETURNING {_COLUMNS}
"""
ACCEPT: LiteralString = "UPDATE invitations SET accepted_at = now() WHERE id = %(id)s"
FIND_BY_HASH: LiteralString = "SELECT id, org_id FROM invitation_by_secret(%(sha256)s)"
UNSENT: LiteralString = "SELECT id, org_id FROM unsent_invitations(make_interval(secs => %(older_than_s)s))"


def insert(tx: Tx, *, invitation_id: UUID, email: str, role: Role, invited_by: str, expires_at: datetime) -> Invitation:
    """Insert an invitation in place of an expired one; raise `AlreadyInvited` when an open one is there."""
    values = {"id": invitation_id, "email": email, "role": role, "invited_by": invited_by, "expires_at": expires_at}
    tx.execute(PUT_AWAY_EXPIRED, {"email": email})
    try:
        return _one(tx.execute(INSERT, values).fetchone())
    except UniqueViolation as error:
        if error.diag.constraint_name == "invitations_one_open":
            raise AlreadyInvited("This address has an open invitation; send it again or revoke it.") from error
        raise


def count_of_a_day(tx: Tx) -> int:
    """Return how many were made within a day."""
    row = tx.execute(COUNT_OF_A_DAY).fetchone()
    return 0 if row is None else int(row["invited"])


def list_invitations(tx: Tx, asked: Slice) -> list[Invitation]:
    return [_invitation(row) for row in tx.execute(LIST, {"before": asked.before, "limit": asked.limit + 1})]


def find(tx: Tx, invitation_id: UUID, *, lock: bool = False) -> Invitation | None:
    row = tx.execute(LOCK if lock else FIND, {"id": invitation_id}).fetchone()
    return None if row is None else _invitation(row)


def lock_unsent(tx: Tx, invitation_id: UUID) -> Invitation | None:
    row = tx.execute(LOCK_UNSENT, {"id": invitation_id}).fetchone()
    return None if row is None else _invitation(row)


def sent(tx: Tx, invitation_id: UUID, *, sha256: bytes) -> None:
    tx.execute(SENT, {"id": invitation_id, "sha256": sha256})


def send_again(tx: Tx, invitation_id: UUID, *, expires_at: datetime) -> Invitation:
    return _one(tx.execute(SEND_AGAIN, {"id": invitation_id, "expires_at": expires_at}).fetchone())


def revoke(tx: Tx, invitation_id: UUID) -> Invitation:
    return _one(tx.execute(REVOKE, {"id": invitation_id}).fetchone())


def accept(tx: Tx, invitation_id: UUID) -> None:
    tx.execute(ACCEPT, {"id": invitation_id})


def by_secret(tx: Tx, sha256: bytes) -> tuple[UUID, UUID] | None:
    """Return the ids of the invitation with this secret and of its org, whatever the tenant."""
    row = tx.execute(FIND_BY_HASH, {"sha256": sha256}).fetchone()
    return None if row is None else (row["id"], row["org_id"])


def unsent(tx: Tx, *, older_than_s: float) -> list[tuple[UUID, UUID]]:
    """Return the ids of up to 100 invitations whose letters have not left, and of their orgs, of all tenants."""
    return [(row["id"], row["org_id"]) for row in tx.execute(UNSENT, {"older_than_s": older_than_s})]


def _one(row: Row | None) -> Invitation:
    assert row is not None  # noqa: S101 - INSERT … RETURNING, and UPDATE of a row that is locked
    return _invitation(row)


def _invitation(row: Row) -> Invitation:
    return Invitation(**(row | {"role": Role(row["role"])}))
