"""Counts each answered request of a tenant in Postgres: a few rows for each caller and five minutes."""

import random
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import LiteralString
from uuid import UUID

import psycopg
from psycopg import sql

from shared.kernel import clock, db
from shared.kernel.arrays import plain, texts
from shared.kernel.caller import Caller
from shared.kernel.db import Tx
from shared.kernel.errors import Unavailable
from shared.kernel.resilience import Breaker
from shared.kernel.telemetry import logger, measure

WINDOW = timedelta(minutes=5)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# Requests of one caller at the same moment seldom wait for each other's row.
_SHARDS = 4
_TOO_MANY = 429
# While Postgres is gone each worker asks for it once in this many seconds, so that no request waits for it twice.
_breaker = Breaker(name="counting", failures=1, reset_s=5)

COUNT: LiteralString = """
    INSERT INTO api_calls (org_id, window_start, actor_id, person_id, shard, calls)
    VALUES ({org_id}, {window}, {actor_id}, {person_id}, {shard}, 1)
    ON CONFLICT (org_id, window_start, actor_id, shard) DO UPDATE SET calls = api_calls.calls + 1
"""
_COUNT = sql.SQL(COUNT)
COUNT_MANY: LiteralString = """
    INSERT INTO api_calls (org_id, window_start, actor_id, person_id, shard, calls)
    SELECT %(org_id)s, %(window)s, actor_id, person_id, %(shard)s, calls
      FROM unnest(%(actors)s::text[], %(persons)s::uuid[], %(calls)s::bigint[]) AS counted (actor_id, person_id, calls)
    ON CONFLICT (org_id, window_start, actor_id, shard) DO UPDATE SET calls = api_calls.calls + excluded.calls
"""


def window_of(moment: datetime) -> datetime:
    """Return the start of the five minutes that a moment lies in; no window reaches into another day."""
    return moment - (moment - _EPOCH) % WINDOW


def count(caller: Caller | None, status: int) -> None:
    """Count a request that was answered with this HTTP status, unless it failed by our fault or had no caller.

    What a rate limit refuses isn't counted: a flood of it must not reach the database. A request
    that can't be counted is answered all the same: it is logged and measured, and costs the tenant nothing.
    """
    if caller is None or status >= 500 or status == _TOO_MANY:
        return
    if not _breaker.allows():
        _uncounted("postgres was gone")
        return
    try:
        db.write_behind(caller, _counting(caller))
    except (Unavailable, psycopg.Error) as error:
        # Only a server that is gone is worth sparing the next requests.
        if isinstance(error, Unavailable):
            _breaker.failed()
        _uncounted(type(error).__name__)
    else:
        _breaker.succeeded()


def count_many(tx: Tx, org_id: UUID, callers: Sequence[Caller]) -> None:
    """Count one answered request of each of these callers of an org, within the transaction of what they asked for.

    Others who count wait until it ends: let it be its last statement.
    """
    persons = {caller.actor_id: caller.person_id for caller in callers}
    # Everybody locks the rows of several in the same order.
    calls = sorted(Counter(caller.actor_id for caller in callers).items())
    tx.execute(
        COUNT_MANY,
        {
            "org_id": org_id,
            "window": window_of(clock.now()),
            "shard": _shard(),
            "actors": texts(actor_id for actor_id, _ in calls),
            "persons": plain(persons[actor_id] for actor_id, _ in calls),
            "calls": plain(many for _, many in calls),
        },
    )


def _shard() -> int:
    return random.randrange(_SHARDS)  # noqa: S311 - spreads load, keeps no secret


def _counting(caller: Caller) -> sql.Composed:
    return _COUNT.format(
        org_id=str(caller.org_id),
        window=window_of(clock.now()).isoformat(),
        actor_id=caller.actor_id,
        person_id=None if caller.person_id is None else str(caller.person_id),
        shard=_shard(),
    )


def _uncounted(reason: str) -> None:
    logger.warning("request not counted", extra={"reason": reason})
    measure("ApiCallNotCounted", 1, service="counting")
