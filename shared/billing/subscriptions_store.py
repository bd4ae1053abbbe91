"""SQL of subscriptions: the running period of each org's plan. The plan's name stands in `orgs`."""

from datetime import UTC
from typing import Any, LiteralString
from uuid import UUID

from shared.billing.plan_changes import Subscription, period_of
from shared.kernel import clock
from shared.kernel.db import Tx

# An org without a row has its months from the day on which it was made.
FIND: LiteralString = """
    SELECT org.id, org.plan, org.created_at, subscription.period_start, subscription.period_end, subscription.anchor,
           coalesce(subscription.monthly_microusd, 0) AS monthly_microusd
      FROM orgs org LEFT JOIN subscriptions subscription ON subscription.org_id = org.id
     WHERE org.id = %(org_id)s
"""
INSERT: LiteralString = """
    INSERT INTO subscriptions (org_id, period_start, period_end, anchor, monthly_microusd)
    VALUES (%(org_id)s, %(period_start)s, %(period_end)s, %(anchor)s, %(monthly_microusd)s)
    ON CONFLICT DO NOTHING
    RETURNING org_id
"""
SAVE: LiteralString = """
    INSERT INTO subscriptions (org_id, period_start, period_end, anchor, monthly_microusd)
    VALUES (%(org_id)s, %(period_start)s, %(period_end)s, %(anchor)s, %(monthly_microusd)s)
    ON CONFLICT (org_id) DO UPDATE
       SET period_start = excluded.period_start, period_end = excluded.period_end, anchor = excluded.anchor,
           monthly_microusd = excluded.monthly_microusd, changed_at = now()
"""
DUE: LiteralString = "SELECT orgs_with_period_over() AS id"


def find(tx: Tx, org_id: UUID) -> Subscription | None:
    row = tx.execute(FIND, {"org_id": org_id}).fetchone()
    return None if row is None else _subscription(row)


def insert(tx: Tx, subscription: Subscription) -> bool:
    """Return whether it is the org's first."""
    return tx.execute(INSERT, _columns(subscription)).fetchone() is not None


def save(tx: Tx, subscription: Subscription) -> None:
    tx.execute(SAVE, _columns(subscription))


def due(tx: Tx) -> list[UUID]:
    return [row["id"] for row in tx.execute(DUE)]


def _columns(subscription: Subscription) -> dict[str, Any]:
    return {
        "org_id": subscription.org_id,
        "period_start": subscription.period_start,
        "period_end": subscription.period_end,
        "anchor": subscription.anchor,
        "monthly_microusd": subscription.monthly_microusd,
    }


def _subscription(row: dict[str, Any]) -> Subscription:
    if row["anchor"] is None:
        start, end = period_of(row["created_at"], clock.now())
    else:
        start, end = row["period_start"].astimezone(UTC), row["period_end"].astimezone(UTC)
    return Subscription(
        org_id=row["id"],
        plan=row["plan"],
        period_start=start,
        period_end=end,
        anchor=(row["anchor"] or row["created_at"]).astimezone(UTC),
        monthly_microusd=row["monthly_microusd"],
    )
