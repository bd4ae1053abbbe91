"""SQL of what each day came to, and of how far the ledger has been added up."""

from datetime import UTC, date, datetime, timedelta
from typing import LiteralString
from uuid import UUID

from shared.kernel.db import Row, Tx
from shared.usage.days_model import UNSEEN_FOR, DayOfUsage, Dimension, Watermark, recorded_since
from shared.usage.model import UsageKind

# Whoever comes second waits here, and then sees what the first one wrote.
CLAIM_DAY: LiteralString = """
    INSERT INTO usage_days (org_id, day, aggregated_at) VALUES (%(org_id)s, %(day)s, statement_timestamp())
    ON CONFLICT (org_id, day) DO UPDATE SET aggregated_at = EXCLUDED.aggregated_at
"""
FORGET_DAY: LiteralString = "DELETE FROM usage_daily WHERE day = %(day)s"
ADD_UP_DAY: LiteralString = """
    INSERT INTO usage_daily (org_id, day, kind, agent_id, person_id, key_id, model, quantity, cost_microusd, events)
    SELECT %(org_id)s, %(day)s, kind,
           coalesce(dimensions->>'agent_id', ''), coalesce(dimensions->>'person_id', ''),
           coalesce(dimensions->>'key_id', ''), coalesce(dimensions->>'model', ''),
           sum(quantity), sum(cost_microusd), count(*)
      FROM usage_events
     WHERE occurred_at >= %(begins)s AND occurred_at < %(ends)s
     GROUP BY 3, 4, 5, 6, 7
"""
TOUCHED_DAYS: LiteralString = """
    SELECT DISTINCT (occurred_at AT TIME ZONE 'UTC')::date AS day FROM usage_events WHERE id >= %(from_id)s ORDER BY 1
"""
DAYS_BETWEEN: LiteralString = """
    SELECT each::date AS day
      FROM generate_series(%(since)s::timestamp, %(until)s::timestamp, interval '1 day') each
     WHERE EXISTS (SELECT FROM usage_daily WHERE day = each::date)
        OR (SELECT occurred_at FROM usage_events
             WHERE occurred_at >= each AT TIME ZONE 'UTC'
             ORDER BY occurred_at LIMIT 1) < (each + interval '1 day') AT TIME ZONE 'UTC'
     ORDER BY 1
"""
DAYS_DONE: LiteralString = "SELECT day FROM usage_days WHERE aggregated_at >= %(as_of)s"
WATERMARK: LiteralString = """
    SELECT now() AS now, (SELECT added_until FROM usage_watermarks) AS added_until
"""
# A job that began earlier and ends later doesn't set it back: what it wrote is as new as what it found.
ADVANCE: LiteralString = """
    INSERT INTO usage_watermarks (org_id, added_until) VALUES (%(org_id)s, %(until)s)
    ON CONFLICT (org_id) DO UPDATE SET added_until = greatest(usage_watermarks.added_until, EXCLUDED.added_until)
"""
ORGS_BEHIND: LiteralString = "SELECT orgs_with_days_to_add(%(after)s, %(amount)s, %(unseen_for)s) AS id"
ORGS_USED: LiteralString = "SELECT orgs_with_usage_between(%(after)s, %(amount)s, %(since)s, %(until)s) AS id"
KNOWN_ZONE: LiteralString = "SELECT EXISTS (SELECT FROM pg_timezone_names WHERE name = %(zone)s) AS known"
TODAY: LiteralString = "SELECT (now() AT TIME ZONE %(zone)s)::date AS day"

# Days that were added up and not touched since are taken as they are, all others from the ledger, in one statement:
# both halves see the same moment. The days from the ledger are added up one by one, each by its part of the index.
DAYS_IN_UTC: LiteralString = """
    WITH touched AS MATERIALIZED (
        SELECT DISTINCT (occurred_at AT TIME ZONE 'UTC')::date AS day
          FROM usage_events
         WHERE id >= %(from_id)s AND occurred_at >= %(begins)s AND occurred_at < %(ends)s
    ), added AS (
        SELECT day, kind, agent_id, person_id, key_id, model, quantity, cost_microusd, events
          FROM usage_daily
         WHERE day >= %(since)s AND day <= %(until)s
           AND NOT EXISTS (SELECT FROM touched WHERE touched.day = usage_daily.day)
        UNION ALL
        SELECT touched.day, of_day.*
          FROM touched
         CROSS JOIN LATERAL (
            SELECT kind,
                   coalesce(dimensions->>'agent_id', ''), coalesce(dimensions->>'person_id', ''),
                   coalesce(dimensions->>'key_id', ''), coalesce(dimensions->>'model', ''),
                   sum(quantity), sum(cost_microusd), count(*)
              FROM usage_events
             WHERE occurred_at >= touched.day::timestamp AT TIME ZONE 'UTC'
               AND occurred_at < (touched.day + 1)::timestamp AT TIME ZONE 'UTC'
             GROUP BY 1, 2, 3, 4, 5
         ) of_day
    )
    SELECT day, kind,
           CASE WHEN %(by_agent)s THEN agent_id ELSE '' END AS agent_id,
           CASE WHEN %(by_person)s THEN person_id ELSE '' END AS person_id,
           CASE WHEN %(by_key)s THEN key_id ELSE '' END AS key_id,
           CASE WHEN %(by_model)s THEN model ELSE '' END AS model,
           sum(quantity) AS quantity, sum(cost_microusd) AS cost_microusd, sum(events) AS events
      FROM added
     WHERE %(kind)s::text IS NULL OR kind = %(kind)s
     GROUP BY 1, 2, 3, 4, 5, 6
     ORDER BY 1, 2, 3, 4, 5, 6
     LIMIT %(limit)s
"""
# An event belongs to the day its own local time says: a midnight that is skipped or comes twice needs no rule.
DAYS_ELSEWHERE: LiteralString = """
    SELECT (occurred_at AT TIME ZONE %(zone)s)::date AS day, kind,
           CASE WHEN %(by_agent)s THEN coalesce(dimensions->>'agent_id', '') ELSE '' END AS agent_id,
           CASE WHEN %(by_person)s THEN coalesce(dimensions->>'person_id', '') ELSE '' END AS person_id,
           CASE WHEN %(by_key)s THEN coalesce(dimensions->>'key_id', '') ELSE '' END AS key_id,
           CASE WHEN %(by_model)s THEN coalesce(dimensions->>'model', '') ELSE '' END AS model,
           sum(quantity) AS quantity, sum(cost_microusd) AS cost_microusd, count(*) AS events
      FROM usage_events
     WHERE occurred_at >= %(begins)s AND occurred_at < %(ends)s
       AND (occurred_at AT TIME ZONE %(zone)s)::date BETWEEN %(since)s AND %(until)s
       AND (%(kind)s::text IS NULL OR kind = %(kind)s)
     GROUP BY 1, 2, 3, 4, 5, 6
     ORDER BY 1, 2, 3, 4, 5, 6
     LIMIT %(limit)s
"""


def add_up_day(tx: Tx, org_id: UUID, day: date) -> int:
    """Write the day's rows anew from the ledger and return how many there are."""
    begins, ends = _utc(day), _utc(day + timedelta(days=1))
    tx.execute(CLAIM_DAY, {"org_id": org_id, "day": day})
    tx.execute(FORGET_DAY, {"day": day})
    return tx.execute(ADD_UP_DAY, {"org_id": org_id, "day": day, "begins": begins, "ends": ends}).rowcount


def touched_days(tx: Tx, from_id: UUID) -> list[date]:
    return [row["day"] for row in tx.execute(TOUCHED_DAYS, {"from_id": from_id})]


def days_between(tx: Tx, since: date, until: date) -> list[date]:
    return [row["day"] for row in tx.execute(DAYS_BETWEEN, {"since": since, "until": until})]


def days_done(tx: Tx, as_of: datetime) -> set[date]:
    """Return the days added up at this moment or later."""
    return {row["day"] for row in tx.execute(DAYS_DONE, {"as_of": as_of})}


def watermark(tx: Tx) -> Watermark:
    [row] = tx.execute(WATERMARK)
    return Watermark(**row)


def advance(tx: Tx, org_id: UUID, until: datetime) -> None:
    tx.execute(ADVANCE, {"org_id": org_id, "until": until})


def orgs_behind(tx: Tx, *, after: UUID, amount: int) -> list[UUID]:
    """Return tenants in the order of their ids that have events which may not be in their days yet."""
    rows = tx.execute(ORGS_BEHIND, {"after": after, "amount": amount, "unseen_for": UNSEEN_FOR})
    return [row["id"] for row in rows]


def orgs_used(tx: Tx, *, after: UUID, amount: int, since: date, until: date) -> list[UUID]:
    """Return tenants in the order of their ids that have events of these days."""
    rows = tx.execute(ORGS_USED, {"after": after, "amount": amount, "since": since, "until": until})
    return [row["id"] for row in rows]


def knows_zone(tx: Tx, zone: str) -> bool:
    [row] = tx.execute(KNOWN_ZONE, {"zone": zone})
    return bool(row["known"])


def today(tx: Tx, zone: str) -> date:
    [row] = tx.execute(TODAY, {"zone": zone})
    found: date = row["day"]
    return found


def days_in_utc(
    tx: Tx, since: date, until: date, group_by: frozenset[Dimension], kind: UsageKind | None, *, limit: int
) -> list[DayOfUsage]:
    added_until = watermark(tx).added_until
    asked = _asked(since, until, group_by, kind, limit) | {
        "begins": _utc(since),
        "ends": _utc(until + timedelta(days=1)),
        "from_id": recorded_since(added_until) if added_until else UUID(int=0),
    }
    return [_day(row) for row in tx.execute(DAYS_IN_UTC, asked)]


def days_elsewhere(
    tx: Tx, since: date, until: date, zone: str, group_by: frozenset[Dimension], kind: UsageKind | None, *, limit: int
) -> list[DayOfUsage]:
    asked = _asked(since, until, group_by, kind, limit) | {
        "zone": zone,
        # No place is further than 16 hours from UTC.
        "begins": _utc(since - timedelta(days=1)),
        "ends": _utc(until + timedelta(days=2)),
    }
    return [_day(row) for row in tx.execute(DAYS_ELSEWHERE, asked)]


def _asked(
    since: date, until: date, group_by: frozenset[Dimension], kind: UsageKind | None, limit: int
) -> dict[str, object]:
    return {
        "since": since,
        "until": until,
        "kind": kind,
        "limit": limit,
        **{f"by_{dimension}": dimension in group_by for dimension in Dimension},
    }


def _utc(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def _day(row: Row) -> DayOfUsage:
    numbers = {name: int(row[name]) for name in ("quantity", "cost_microusd", "events")}
    return DayOfUsage(**row | numbers | {"kind": UsageKind(row["kind"])})
