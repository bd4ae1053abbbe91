"""SQL of the usage ledger."""

import json
from collections.abc import Sequence
from datetime import datetime
from typing import LiteralString
from uuid import UUID

from psycopg import Cursor

from shared.kernel.arrays import moments, plain, texts
from shared.kernel.db import Row, Tx
from shared.kernel.pagination import Slice
from shared.usage.model import NewEvent, UnitPrice, UsageEvent, UsageKind, UsageTotal

# The claims and what they claim are one statement: neither is there without the other. Claims are inserted in the order
# given, which is the same for everybody.
INSERT_EVENTS: LiteralString = """
    WITH given AS (
        SELECT *
          FROM unnest(%(ids)s::uuid[], %(kinds)s::text[], %(quantities)s::bigint[], %(units)s::text[],
                      %(unit_prices)s::numeric[], %(price_units)s::bigint[], %(costs)s::bigint[],
                      %(source_ids)s::text[], %(dimensions)s::jsonb[], %(occurred)s::timestamptz[])
            AS given (id, kind, quantity, unit, unit_price_microusd, price_units, cost_microusd, source_id, dimensions,
                      occurred_at)
    ), claimed AS (
        INSERT INTO usage_claims (org_id, source_id, kind)
        SELECT %(org_id)s, source_id, kind FROM given
        ON CONFLICT DO NOTHING
        RETURNING source_id, kind
    )
    INSERT INTO usage_events (id, org_id, kind, quantity, unit, unit_price_microusd, price_units, cost_microusd,
                              source_id, dimensions, occurred_at)
    SELECT id, %(org_id)s, kind, quantity, unit, unit_price_microusd, price_units, cost_microusd, source_id, dimensions,
           occurred_at
      FROM given JOIN claimed USING (source_id, kind)
    RETURNING id
"""
LIST_EVENTS: LiteralString = """
    SELECT id, kind, quantity, unit, unit_price_microusd, price_units, cost_microusd, source_id, dimensions,
           occurred_at, recorded_at
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


def insert_events(tx: Tx, org_id: UUID, events: Sequence[NewEvent]) -> list[NewEvent]:
    """Return those whose source's usage of their kind wasn't in the ledger: they are now."""
    inserted = {row["id"] for row in send_events(tx, org_id, events)}
    return [event for event in events if event.id in inserted]


def send_events(tx: Tx, org_id: UUID, events: Sequence[NewEvent]) -> Cursor[Row]:
    """Insert as `insert_events` does; the rows are the ids of those that are new."""
    return tx.execute(
        INSERT_EVENTS,
        {
            "org_id": org_id,
            "ids": plain([event.id for event in events]),
            "kinds": plain([event.kind for event in events]),
            "quantities": plain([event.quantity for event in events]),
            "units": plain([event.kind.unit for event in events]),
            "unit_prices": plain([event.unit_price.microusd for event in events]),
            "price_units": plain([event.unit_price.units for event in events]),
            "costs": plain([event.cost_microusd for event in events]),
            "occurred": moments([event.occurred_at for event in events]),
            "source_ids": texts([event.source_id for event in events]),
            "dimensions": texts([json.dumps(dict(event.dimensions)) for event in events]),
        },
    )


def list_events(tx: Tx, asked: Slice, *, kind: UsageKind | None) -> list[UsageEvent]:
    rows = tx.execute(LIST_EVENTS, {"before": asked.before, "limit": asked.limit + 1, "kind": kind})
    return [_event(row) for row in rows]


def totals(tx: Tx, *, since: datetime, until: datetime) -> dict[UsageKind, UsageTotal]:
    rows = tx.execute(TOTALS, {"since": since, "until": until})
    found = (UsageTotal(UsageKind(row["kind"]), row["quantity"], row["cost_microusd"]) for row in rows)
    return {total.kind: total for total in found}


def _event(row: Row) -> UsageEvent:
    price = UnitPrice(row.pop("unit_price_microusd"), row.pop("price_units"))
    return UsageEvent(**row | {"kind": UsageKind(row["kind"]), "unit_price": price})
