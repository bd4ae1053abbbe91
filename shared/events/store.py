"""SQL of the outbox."""

from datetime import timedelta
from typing import Any, LiteralString
from uuid import UUID

from psycopg.types.json import Jsonb

from shared.events.model import OutboxEvent
from shared.kernel.db import Tx

INSERT_EVENT: LiteralString = """
    INSERT INTO outbox (id, org_id, type, subject, data)
    VALUES (%(id)s, current_setting('app.current_org_id')::uuid, %(type)s, %(subject)s, %(data)s)
"""
# SKIP LOCKED: two relays at once share the work instead of sending twice.
UNSENT: LiteralString = """
    SELECT id, org_id, type, subject, data, created_at FROM outbox
     WHERE sent_at IS NULL
     ORDER BY id LIMIT %(limit)s
       FOR UPDATE SKIP LOCKED
"""
MARK_SENT: LiteralString = "UPDATE outbox SET sent_at = now() WHERE id = ANY(%(ids)s)"
DELETE_SENT: LiteralString = "DELETE FROM outbox WHERE sent_at < now() - interval '1 day'"
ORGS_WITH_WORK: LiteralString = "SELECT orgs_with_work(%(zombie_after)s) AS org_id"


def insert_event(tx: Tx, *, event_id: UUID, event_type: str, subject: str, data: dict[str, Any]) -> None:
    tx.execute(INSERT_EVENT, {"id": event_id, "type": event_type, "subject": subject, "data": Jsonb(data)})


def unsent(tx: Tx, *, limit: int) -> list[OutboxEvent]:
    return [OutboxEvent(**row) for row in tx.execute(UNSENT, {"limit": limit})]


def mark_sent(tx: Tx, event_ids: list[UUID]) -> None:
    tx.execute(MARK_SENT, {"ids": event_ids})


def delete_sent(tx: Tx) -> None:
    tx.execute(DELETE_SENT)


def orgs_with_work(tx: Tx, *, zombie_after: timedelta) -> list[UUID]:
    return [row["org_id"] for row in tx.execute(ORGS_WITH_WORK, {"zombie_after": zombie_after})]
