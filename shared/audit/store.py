"""SQL of the audit trail and its chain."""

from collections.abc import Generator, Iterator
from typing import Any, LiteralString
from uuid import UUID

from psycopg.types.json import Jsonb

from shared.audit.model import AuditEvent, Fault, FaultKind, Filter, Head
from shared.kernel.db import Tx
from shared.kernel.pagination import Slice

INSERT_EVENT: LiteralString = """
    INSERT INTO audit_events (id, org_id, actor, actor_ip, action, resource_type, resource_id, old, new, request_id)
    VALUES (%(id)s, %(org_id)s, %(actor)s, %(actor_ip)s, %(action)s, %(resource_type)s, %(resource_id)s, %(old)s,
            %(new)s, %(request_id)s)
"""
_EVENT: LiteralString = """
    event.id, event.actor, event.actor_ip, event.action, event.resource_type, event.resource_id, event.old, event.new,
    event.request_id, event.created_at, link.seq, link.hash
"""
_MATCHES: LiteralString = """
           (%(actor)s::text IS NULL OR event.actor = %(actor)s)
       AND (%(action)s::text IS NULL OR event.action = %(action)s)
       AND (%(resource_type)s::text IS NULL OR event.resource_type = %(resource_type)s)
       AND (%(resource_id)s::text IS NULL OR event.resource_id = %(resource_id)s)
       AND (%(since)s::timestamptz IS NULL OR event.created_at >= %(since)s)
       AND (%(until)s::timestamptz IS NULL OR event.created_at < %(until)s)
"""
LIST_EVENTS: LiteralString = f"""
    WITH event AS (
        SELECT * FROM audit_events event
         WHERE (%(before)s::uuid IS NULL OR event.id < %(before)s) AND {_MATCHES}
         ORDER BY event.id DESC LIMIT %(limit)s
    )
    SELECT {_EVENT} FROM event LEFT JOIN audit_chain link ON link.event_id = event.id ORDER BY event.id DESC
"""
FIND_EVENT: LiteralString = f"""
    SELECT {_EVENT} FROM audit_events event LEFT JOIN audit_chain link ON link.event_id = event.id
     WHERE event.id = %(id)s
"""
# In the order of the chain, which is that of the commits: whoever goes on from an entry misses nothing.
EVENTS_AFTER: LiteralString = f"""
    SELECT {_EVENT}
      FROM audit_chain link
      JOIN audit_events event ON event.id = link.event_id AND event.created_at = link.event_created_at
     WHERE link.seq > %(after)s AND {_MATCHES}
     ORDER BY link.seq
"""
_UNFILTERED = dict.fromkeys(Filter.__annotations__)
EVERY_ORG: LiteralString = "SELECT every_org() AS id"
# One batch of the chain against its events. An entry whose event is found under another time was edited.
CHECK_CHAIN: LiteralString = """
    WITH link AS MATERIALIZED (
        SELECT batch.*, lag(seq, 1, %(seq)s::bigint) OVER (ORDER BY seq) AS seq_before,
               lag(hash, 1, %(hash)s::bytea) OVER (ORDER BY seq) AS hash_before
          FROM (SELECT * FROM audit_chain WHERE seq > %(seq)s ORDER BY seq LIMIT %(limit)s) batch
    ), checked AS (
        SELECT link.seq, link.event_id, link.seq_before, link.hash,
               link.seq <> link.seq_before + 1 AS gap,
               link.seq = link.seq_before + 1 AND link.previous <> link.hash_before AS broken,
               CASE WHEN event.id IS NOT NULL THEN link.hash <> audit_hash(link.previous, link.seq, event)
                    ELSE EXISTS (SELECT FROM audit_events moved WHERE moved.id = link.event_id) END AS edited,
               event.id IS NULL AS missing
          FROM link
          LEFT JOIN audit_events event ON event.id = link.event_id AND event.created_at = link.event_created_at
    )
    SELECT (array_agg(seq ORDER BY seq DESC))[1] AS seq, (array_agg(hash ORDER BY seq DESC))[1] AS hash,
           coalesce(jsonb_agg(jsonb_build_object('seq', seq, 'seq_before', seq_before, 'event_id', event_id,
                                                 'gap', gap, 'broken', broken, 'edited', edited, 'missing', missing)
                              ORDER BY seq) FILTER (WHERE gap OR broken OR edited OR missing), '[]') AS faults
      FROM checked
"""
CHECK_EVENTS: LiteralString = """
    WITH event AS MATERIALIZED (
        SELECT id, created_at FROM audit_events
         WHERE %(after)s::uuid IS NULL OR id > %(after)s ORDER BY id LIMIT %(limit)s
    )
    SELECT count(*) AS events, (array_agg(event.id ORDER BY event.id DESC))[1] AS last,
           coalesce(array_agg(event.id ORDER BY event.id) FILTER (WHERE link.seq IS NULL), '{}') AS unchained
      FROM event
      LEFT JOIN audit_chain link ON link.event_id = event.id AND link.event_created_at = event.created_at
"""


def insert_event(
    tx: Tx,
    *,
    event_id: UUID,
    org_id: UUID,
    actor: str,
    actor_ip: str,
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
            "actor_ip": actor_ip,
            "action": action,
            "resource_type": resource_type,
            "resource_id": resource_id,
            "old": None if old is None else Jsonb(old),
            "new": None if new is None else Jsonb(new),
            "request_id": request_id,
        },
    )


def list_events(tx: Tx, asked: Slice, wanted: Filter) -> list[AuditEvent]:
    rows = tx.execute(LIST_EVENTS, {**_UNFILTERED, **wanted, "before": asked.before, "limit": asked.limit + 1})
    return [AuditEvent(**row) for row in rows]


def find_event(tx: Tx, event_id: UUID) -> AuditEvent | None:
    row = tx.execute(FIND_EVENT, {"id": event_id}).fetchone()
    return None if row is None else AuditEvent(**row)


def events_after(tx: Tx, after: int, wanted: Filter) -> Generator[AuditEvent]:
    """Yield events in the order of the chain, read some at a time; close it to stop."""
    with tx.cursor("audit_export") as cursor:
        cursor.itersize = 500
        for row in cursor.execute(EVENTS_AFTER, {**_UNFILTERED, **wanted, "after": after}):
            yield AuditEvent(**row)


def every_org(tx: Tx) -> list[UUID]:
    return [row["id"] for row in tx.execute(EVERY_ORG)]


def check_chain(tx: Tx, head: Head, *, limit: int) -> tuple[Head | None, list[Fault]]:
    """Return where the batch of entries after `head` ends, and what is wrong in it; None when there is no entry."""
    row = tx.execute(CHECK_CHAIN, {"seq": head.seq, "hash": head.hash, "limit": limit}).fetchone()
    if row is None or row["seq"] is None:
        return None, []
    return Head(row["seq"], row["hash"]), [fault for found in row["faults"] for fault in _faults(found)]


def check_events(tx: Tx, after: UUID | None, *, limit: int) -> tuple[UUID | None, int, list[UUID]]:
    """Return the last id of the batch of events after `after`, how many it has, and those without an entry."""
    row = tx.execute(CHECK_EVENTS, {"after": after, "limit": limit}).fetchone()
    return (None, 0, []) if row is None else (row["last"], row["events"], row["unchained"])


def _faults(found: dict[str, Any]) -> Iterator[Fault]:
    seq, event_id = found["seq"], UUID(found["event_id"])
    if found["gap"]:
        yield Fault(FaultKind.ENTRIES_REMOVED, None, seq, first_missing=found["seq_before"] + 1)
    if found["broken"]:
        yield Fault(FaultKind.BROKEN_LINK, None, seq)
    if found["edited"]:
        yield Fault(FaultKind.EDITED, event_id, seq)
    elif found["missing"]:
        yield Fault(FaultKind.REMOVED, event_id, seq)
