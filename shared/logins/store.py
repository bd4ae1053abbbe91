"""SQL of pending sign-ins, identities and orgs' own sign-ins."""

import hashlib
from collections.abc import Mapping
from datetime import timedelta
from typing import LiteralString
from uuid import UUID

from psycopg.types.json import Jsonb

from shared.kernel.db import Row, Tx
from shared.kernel.pagination import Slice
from shared.logins.model import Begun, Identity, Pending, SsoConnection

INSERT_PENDING: LiteralString = """
    INSERT INTO pending_logins (state_sha256, browser_sha256, provider, org_id, link_user_id, link_session_id, nonce,
                                code_verifier, expires_at)
    VALUES (%(state)s, %(browser)s, %(provider)s, %(org_id)s, %(link_user_id)s, %(link_session_id)s, %(nonce)s,
            %(code_verifier)s, now() + %(lifetime)s)
"""
# Of two callbacks with one state, one finds it. Another browser neither finds nor spends it.
TAKE_PENDING: LiteralString = """
    DELETE FROM pending_logins
     WHERE state_sha256 = %(state)s AND browser_sha256 = %(browser)s AND provider = %(provider)s
       AND org_id IS NOT DISTINCT FROM %(org_id)s AND expires_at > now()
    RETURNING *
"""
LOCK: LiteralString = "SELECT pg_advisory_xact_lock(hashtextextended(%(name)s, 11))"
USER_BY_IDENTITY: LiteralString = "SELECT user_by_identity(%(issuer)s, %(subject)s, %(org_id)s) AS id"
INSERT_IDENTITY: LiteralString = """
    INSERT INTO identities (id, user_id, issuer, subject, org_id, email)
    VALUES (%(id)s, %(user_id)s, %(issuer)s, %(subject)s, %(org_id)s, %(email)s)
"""
USE_IDENTITY: LiteralString = """
    UPDATE identities SET last_used_at = now(), email = coalesce(%(email)s, email)
     WHERE issuer = %(issuer)s AND subject = %(subject)s AND org_id IS NOT DISTINCT FROM %(org_id)s
"""
LIST_IDENTITIES: LiteralString = """
    SELECT * FROM identities WHERE %(before)s::uuid IS NULL OR id < %(before)s ORDER BY id DESC LIMIT %(limit)s
"""
FIND_IDENTITY: LiteralString = "SELECT * FROM identities WHERE id = %(id)s"
COUNT_PERSONAL: LiteralString = "SELECT count(*) AS found FROM identities WHERE org_id IS NULL"
DELETE_IDENTITY: LiteralString = "DELETE FROM identities WHERE id = %(id)s"
ORG_BY_SLUG: LiteralString = "SELECT org_with_sso_by_slug(%(slug)s) AS id"
FIND_CONNECTION: LiteralString = "SELECT * FROM sso_connections"
PUT_CONNECTION: LiteralString = """
    INSERT INTO sso_connections (org_id, issuer, client_id, client_secret_wrapped, role_claim, role_map, default_role)
    VALUES (current_setting('app.current_org_id')::uuid, %(issuer)s, %(client_id)s, %(client_secret_wrapped)s,
            %(role_claim)s, %(role_map)s, %(default_role)s)
    ON CONFLICT (org_id) DO UPDATE
       SET issuer = excluded.issuer, client_id = excluded.client_id, role_claim = excluded.role_claim,
           client_secret_wrapped = excluded.client_secret_wrapped, role_map = excluded.role_map,
           default_role = excluded.default_role, updated_at = now()
    RETURNING *
"""
DELETE_CONNECTION: LiteralString = "DELETE FROM sso_connections RETURNING *"


def insert_pending(tx: Tx, begun: Begun, *, lifetime: timedelta) -> None:
    pending = begun.pending
    tx.execute(
        INSERT_PENDING,
        {
            "state": _sha256(begun.state),
            "browser": _sha256(begun.browser),
            "provider": pending.provider,
            "org_id": pending.org_id,
            "link_user_id": pending.link_user_id,
            "link_session_id": pending.link_session_id,
            "nonce": pending.nonce,
            "code_verifier": pending.code_verifier,
            "lifetime": lifetime,
        },
    )


def take_pending(tx: Tx, *, state: str, browser: str, provider: str, org_id: UUID | None) -> Pending | None:
    values = {"state": _sha256(state), "browser": _sha256(browser), "provider": provider, "org_id": org_id}
    row = tx.execute(TAKE_PENDING, values).fetchone()
    if row is None:
        return None
    return Pending(
        provider=row["provider"],
        org_id=row["org_id"],
        link_user_id=row["link_user_id"],
        link_session_id=row["link_session_id"],
        nonce=row["nonce"],
        code_verifier=row["code_verifier"],
    )


def lock(tx: Tx, name: str) -> None:
    """Let others with the same name wait until this transaction ends."""
    tx.execute(LOCK, {"name": name})


def user_by_identity(tx: Tx, *, issuer: str, subject: str, org_id: UUID | None) -> UUID | None:
    row = tx.execute(USER_BY_IDENTITY, {"issuer": issuer, "subject": subject, "org_id": org_id}).fetchone()
    return None if row is None else row["id"]


def insert_identity(
    tx: Tx, *, identity_id: UUID, user_id: UUID, issuer: str, subject: str, org_id: UUID | None, email: str
) -> None:
    values = {"id": identity_id, "user_id": user_id, "issuer": issuer, "subject": subject}
    tx.execute(INSERT_IDENTITY, values | {"org_id": org_id, "email": email})


def use_identity(tx: Tx, *, issuer: str, subject: str, org_id: UUID | None, email: str | None) -> None:
    tx.execute(USE_IDENTITY, {"issuer": issuer, "subject": subject, "org_id": org_id, "email": email})


def list_identities(tx: Tx, asked: Slice) -> list[Identity]:
    rows = tx.execute(LIST_IDENTITIES, {"before": asked.before, "limit": asked.limit + 1})
    return [_identity(row) for row in rows]


def find_identity(tx: Tx, identity_id: UUID) -> Identity | None:
    row = tx.execute(FIND_IDENTITY, {"id": identity_id}).fetchone()
    return None if row is None else _identity(row)


def count_personal(tx: Tx) -> int:
    """Return how many identities of the current person are no org's."""
    row = tx.execute(COUNT_PERSONAL).fetchone()
    return 0 if row is None else int(row["found"])


def delete_identity(tx: Tx, identity_id: UUID) -> None:
    tx.execute(DELETE_IDENTITY, {"id": identity_id})


def org_by_slug(tx: Tx, slug: str) -> UUID | None:
    row = tx.execute(ORG_BY_SLUG, {"slug": slug}).fetchone()
    return None if row is None else row["id"]


def find_connection(tx: Tx) -> SsoConnection | None:
    row = tx.execute(FIND_CONNECTION).fetchone()
    return None if row is None else _connection(row)


def put_connection(
    tx: Tx,
    *,
    issuer: str,
    client_id: str,
    client_secret_wrapped: bytes,
    role_claim: str | None,
    role_map: Mapping[str, str],
    default_role: str | None,
) -> SsoConnection:
    row = tx.execute(
        PUT_CONNECTION,
        {
            "issuer": issuer,
            "client_id": client_id,
            "client_secret_wrapped": client_secret_wrapped,
            "role_claim": role_claim,
            "role_map": Jsonb(dict(role_map)),
            "default_role": default_role,
        },
    ).fetchone()
    assert row is not None  # noqa: S101 - INSERT … RETURNING
    return _connection(row)


def delete_connection(tx: Tx) -> SsoConnection | None:
    row = tx.execute(DELETE_CONNECTION).fetchone()
    return None if row is None else _connection(row)


def _sha256(secret: str) -> bytes:
    return hashlib.sha256(secret.encode(errors="replace")).digest()


def _identity(row: Row) -> Identity:
    return Identity(
        id=row["id"],
        user_id=row["user_id"],
        issuer=row["issuer"],
        subject=row["subject"],
        org_id=row["org_id"],
        email=row["email"],
        created_at=row["created_at"],
        last_used_at=row["last_used_at"],
    )


def _connection(row: Row) -> SsoConnection:
    return SsoConnection(
        org_id=row["org_id"],
        issuer=row["issuer"],
        client_id=row["client_id"],
        client_secret_wrapped=row["client_secret_wrapped"],
        role_claim=row["role_claim"],
        role_map=row["role_map"],
        default_role=row["default_role"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )
