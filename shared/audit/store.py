"""SQL of the audit trail."""

from typing import Any, LiteralString
from uuid import UUID

from psycopg.types.json import Jsonb

from shared.audit.model import AuditEvent
from shared.kernel.db import Tx
from shared.kernel.pagination import Slice

INSERT_EVENT: LiteralString = """
    INSERT INTO audit_events (id, org_id, actor, action, resource_type, resource_id, old, new, request_id)
    VALUES (%(id)s, %(org_id)s, %(actor)s, %(action)s, %(resource_type)s, %(resource_id)s, %(old)s, %(new)s,
            %(request_id)s)
"""
LIST_EVENTS: LiteralString = """
    SELECT id, actor, action, resource_type, resource_id, old, new, request_id, created_at
      FROM audit_events
     WHERE (%(before)s::uuid IS NULL OR id < %(before)s)
       AND (%(action)s::text IS NULL OR action = %(action)s)
       AND (%(resource_id)s::text IS NULL OR resource_id = %(resource_id)s)
     ORDER BY id DESC LIMIT %(limit)s
"""


def insert_event(
    tx: Tx,
    *,
    event_id: UUID,
    org_id: UUID,
    actor: str,
    action: str,
    resource_type: str,
    resource_id: str,
    old: dict[str, Any] | None,
    new: dict[str, Any] | None,
    request_id: str,
) -> None:
    tx.execute(
        INSERT_EVENT,
        {
            "id": event_id,
            "org_id": org_id,
            "actor": actor,
            "action": action,
            "resource_type": resource_type,
            "resource_id": resource_id,
            "old": None if old is None else Jsonb(old),
            "new": None if new is None else Jsonb(new),
            "request_id": request_id,
        },
    )


def list_events(tx: Tx, asked: Slice, *, action: str | None, resource_id: str | None) -> list[AuditEvent]:
    rows = tx.execute(
        LIST_EVENTS,
        {"before": asked.before, "limit": asked.limit + 1, "action": action, "resource_id": resource_id},
    )
    return [AuditEvent(**row) for row in rows]
