"""SQL of the usage ledger."""

from datetime import datetime
from typing import LiteralString
from uuid import UUID

from psycopg.types.json import Jsonb

from shared.kernel.db import Row, Tx
from shared.kernel.pagination import Slice
from shared.usage.model import UsageEvent, UsageKind, UsageTotal

# The claim and what it claims are one statement: neither is there without the other.
INSERT_EVENT: LiteralString = """
    WITH claimed AS (
        INSERT INTO usage_claims (org_id, source_id, kind) VALUES (%(org_id)s, %(source_id)s, %(kind)s)
        ON CONFLICT DO NOTHING
        RETURNING org_id
    )
    INSERT INTO usage_events (id, org_id, kind, quantity, unit, cost_microusd, source_id, dimensions, occurred_at)
    SELECT %(id)s, org_id, %(kind)s, %(quantity)s, %(unit)s, %(cost_microusd)s, %(source_id)s, %(dimensions)s,
           %(occurred_at)s
      FROM claimed
"""
LIST_EVENTS: LiteralString = """
    SELECT id, kind, quantity, unit, cost_microusd, source_id, dimensions, occurred_at, recorded_at
      FROM usage_events
     WHERE (%(before)s::uuid IS NULL OR id < %(before)s)
       AND (%(kind)s::text IS NULL OR kind = %(kind)s)
     ORDER BY id DESC LIMIT %(limit)s
"""
TOTALS: LiteralString = """
    SELECT kind, sum(quantity)::bigint AS quantity, sum(cost_microusd)::bigint AS cost_microusd
      FROM usage_events
     WHERE occurred_at >= %(since)s AND occurred_at < %(until)s
     GROUP BY kind
"""


def insert_event(
    tx: Tx,
    *,
    event_id: UUID,
    org_id: UUID,
    kind: UsageKind,
    quantity: int,
    cost_microusd: int,
    source_id: str,
    dimensions: dict[str, str],
    occurred_at: datetime,
) -> bool:
    """Return False when this source's usage of this kind is in the ledger already."""
    done = tx.execute(
        INSERT_EVENT,
        {
            "id": event_id,
            "org_id": org_id,
            "kind": kind,
            "quantity": quantity,
            "unit": kind.unit,
            "cost_microusd": cost_microusd,
            "source_id": source_id,
            "dimensions": Jsonb(dimensions),
            "occurred_at": occurred_at,
        },
    )
    return done.rowcount == 1


def list_events(tx: Tx, asked: Slice, *, kind: UsageKind | None) -> list[UsageEvent]:
    rows = tx.execute(LIST_EVENTS, {"before": asked.before, "limit": asked.limit + 1, "kind": kind})
    return [_event(row) for row in rows]


def totals(tx: Tx, *, since: datetime, until: datetime) -> dict[UsageKind, UsageTotal]:
    rows = tx.execute(TOTALS, {"since": since, "until": until})
    found = (UsageTotal(UsageKind(row["kind"]), row["quantity"], row["cost_microusd"]) for row in rows)
    return {total.kind: total for total in found}


def _event(row: Row) -> UsageEvent:
    return UsageEvent(**row | {"kind": UsageKind(row["kind"])})
