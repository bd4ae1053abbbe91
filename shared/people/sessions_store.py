"""SQL of sessions and their refresh tokens."""

from datetime import timedelta
from typing import LiteralString
from uuid import UUID

from shared.kernel.db import Row, Tx
from shared.kernel.pagination import Slice
from shared.people.model import Session

INSERT_SESSION: LiteralString = """
    INSERT INTO sessions (id, user_id, org_id, org_locked, method, ip, user_agent, expires_at)
    VALUES (%(id)s, %(user_id)s, %(org_id)s, %(org_locked)s, %(method)s, %(ip)s, %(user_agent)s,
            now() + %(lifetime)s)
    RETURNING *
"""
INSERT_REFRESH: LiteralString = """
    INSERT INTO refresh_tokens (sha256, user_id, session_id) VALUES (%(sha256)s, %(user_id)s, %(session_id)s)
"""
FIND_REFRESH: LiteralString = "SELECT * FROM refresh_token_by_secret(%(sha256)s)"
# All refreshes of a session wait for one another here.
LOCK_SESSION: LiteralString = "SELECT * FROM sessions WHERE id = %(id)s FOR UPDATE"
USE_REFRESH: LiteralString = """
    UPDATE refresh_tokens SET used_at = now() WHERE sha256 = %(sha256)s AND used_at IS NULL RETURNING 1
"""
USE_SESSION: LiteralString = """
    UPDATE sessions SET last_used_at = now(), org_id = %(org_id)s WHERE id = %(id)s RETURNING *
"""
NEWEST_ORG: LiteralString = "SELECT org_id FROM sessions WHERE NOT org_locked ORDER BY id DESC LIMIT 1"
END_SESSION: LiteralString = """
    UPDATE sessions SET ended_at = now(), ended_because = %(because)s
     WHERE id = %(id)s AND ended_at IS NULL RETURNING *
"""
END_OTHERS: LiteralString = """
    UPDATE sessions SET ended_at = now(), ended_because = %(because)s
     WHERE ended_at IS NULL AND expires_at > now() AND id IS DISTINCT FROM %(keep)s::uuid RETURNING id
"""
LIST_SESSIONS: LiteralString = """
    SELECT * FROM sessions
     WHERE ended_at IS NULL AND expires_at > now() AND (%(before)s::uuid IS NULL OR id < %(before)s)
     ORDER BY id DESC LIMIT %(limit)s
"""
USERS_WITH_EXPIRED: LiteralString = "SELECT users_with_expired_sessions() AS id"
DELETE_EXPIRED: LiteralString = "DELETE FROM sessions WHERE expires_at < now() - interval '30 days' RETURNING 1"


def insert_session(
    tx: Tx,
    *,
    session_id: UUID,
    user_id: UUID,
    org_id: UUID,
    org_locked: bool,
    method: str,
    ip: str,
    user_agent: str,
    lifetime: timedelta,
) -> Session:
    values = {
        "id": session_id,
        "user_id": user_id,
        "org_id": org_id,
        "org_locked": org_locked,
        "method": method,
        "ip": ip,
        "user_agent": user_agent,
        "lifetime": lifetime,
    }
    row = tx.execute(INSERT_SESSION, values).fetchone()
    assert row is not None  # noqa: S101 - INSERT … RETURNING
    return _session(row)


def insert_token(tx: Tx, *, sha256: bytes, user_id: UUID, session_id: UUID) -> None:
    tx.execute(INSERT_REFRESH, {"sha256": sha256, "user_id": user_id, "session_id": session_id})


def token_by_secret(tx: Tx, sha256: bytes) -> tuple[UUID, UUID] | None:
    """Return whose token this is and of which session, used or not."""
    row = tx.execute(FIND_REFRESH, {"sha256": sha256}).fetchone()
    return None if row is None else (row["user_id"], row["session_id"])


def lock_session(tx: Tx, session_id: UUID) -> Session | None:
    row = tx.execute(LOCK_SESSION, {"id": session_id}).fetchone()
    return None if row is None else _session(row)


def use_token(tx: Tx, sha256: bytes) -> bool:
    return tx.execute(USE_REFRESH, {"sha256": sha256}).fetchone() is not None


def use_session(tx: Tx, session_id: UUID, *, org_id: UUID) -> Session:
    row = tx.execute(USE_SESSION, {"id": session_id, "org_id": org_id}).fetchone()
    assert row is not None  # noqa: S101 - locked before
    return _session(row)


def newest_org(tx: Tx) -> UUID | None:
    row = tx.execute(NEWEST_ORG).fetchone()
    return None if row is None else row["org_id"]


def end_session(tx: Tx, session_id: UUID, *, because: str) -> Session | None:
    row = tx.execute(END_SESSION, {"id": session_id, "because": because}).fetchone()
    return None if row is None else _session(row)


def end_others(tx: Tx, *, keep: UUID | None, because: str) -> list[UUID]:
    return [row["id"] for row in tx.execute(END_OTHERS, {"keep": keep, "because": because})]


def list_sessions(tx: Tx, asked: Slice) -> list[Session]:
    rows = tx.execute(LIST_SESSIONS, {"before": asked.before, "limit": asked.limit + 1})
    return [_session(row) for row in rows]


def users_with_expired(tx: Tx) -> list[UUID]:
    return [row["id"] for row in tx.execute(USERS_WITH_EXPIRED)]


def delete_expired(tx: Tx) -> int:
    return len(tx.execute(DELETE_EXPIRED).fetchall())


def _session(row: Row) -> Session:
    return Session(**row)
