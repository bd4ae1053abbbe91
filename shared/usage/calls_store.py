"""SQL of counted requests on their way into the ledger, and of who has any."""

from datetime import datetime
from typing import LiteralString
from uuid import UUID

from shared.kernel.db import Row, Tx

LOCK: LiteralString = "SELECT pg_advisory_xact_lock(hashtextextended(current_setting('app.current_org_id'), 33))"
TAKE_CLOSED: LiteralString = """
    WITH closed AS (
        SELECT DISTINCT window_start, actor_id FROM api_calls
         WHERE window_start < %(before)s
         ORDER BY window_start, actor_id LIMIT %(limit)s
    ), taken AS (
        DELETE FROM api_calls counted USING closed
         WHERE counted.window_start = closed.window_start AND counted.actor_id = closed.actor_id
        RETURNING counted.window_start, counted.actor_id, counted.person_id, counted.calls
    )
    SELECT window_start, actor_id, max(person_id::text)::uuid AS person_id, sum(calls)::bigint AS calls
      FROM taken GROUP BY window_start, actor_id ORDER BY window_start, actor_id
"""
# The sources of one window are its name, and its name with `:1`, `:2` and so on.
CLAIMED: LiteralString = """
    SELECT name, (
        SELECT count(*) FROM usage_claims
         WHERE kind = %(kind)s AND (source_id = name OR source_id >= name || ':' AND source_id < name || ';')
    ) AS times
      FROM unnest(%(names)s::text[]) AS name
"""
ORGS_TO_CLOSE: LiteralString = "SELECT orgs_with_calls_to_close(%(closed_before)s) AS id"


def lock(tx: Tx) -> None:
    """Let nobody else close this tenant's windows until the transaction ends: two would block each other's rows."""
    tx.execute(LOCK)


def take_closed(tx: Tx, *, before: datetime, limit: int) -> list[Row]:
    """Delete the oldest counts of windows that began before then, and return them summed up by window and actor."""
    return list(tx.execute(TAKE_CLOSED, {"before": before, "limit": limit}))


def times_claimed(tx: Tx, kind: str, names: list[str]) -> dict[str, int]:
    """Return how many sources there are already under each of these names."""
    return {row["name"]: row["times"] for row in tx.execute(CLAIMED, {"kind": kind, "names": names})}


def orgs_to_close(tx: Tx, *, before: datetime) -> list[UUID]:
    return [row["id"] for row in tx.execute(ORGS_TO_CLOSE, {"closed_before": before})]
