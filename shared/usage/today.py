"""What a tenant used on the present UTC day: kept in Redis for seconds, counted anew wherever that isn't to be had.

For showing alone: nothing that spends, holds or limits asks here.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

from shared.kernel import clock
from shared.kernel.caller import Caller
from shared.kernel.db import Tx
from shared.usage import today_store as store
from shared.usage.model import UsageKind, UsageTotal

FRESH = timedelta(seconds=10)


@dataclass(frozen=True, slots=True)
class Today:
    """All of each kind that occurred on `day` and was known at `as_of`."""

    day: date
    as_of: datetime
    totals: list[UsageTotal]


def kept(caller: Caller) -> Today | None:
    """Return the figures in Redis, unless they are older than `FRESH`, from the future, or not there."""
    now = clock.now()
    found = store.kept(caller.org_id, now.date())
    if found is None or not now - FRESH < found[0] <= now:
        return None
    return Today(now.date(), *found)


def counted(tx: Tx) -> Today:
    """Return the figures of the ledger, with requests whose five minutes aren't over."""
    now = clock.now()
    since = datetime.combine(now.date(), time(), UTC)
    used = store.totals(tx, since=since, until=since + timedelta(days=1))
    return Today(now.date(), now, [used.get(kind, UsageTotal(kind, 0, 0)) for kind in UsageKind])


def keep(caller: Caller, figures: Today) -> None:
    """Keep what `counted` returned for those who ask next."""
    store.keep(caller.org_id, figures.day, as_of=figures.as_of, used=figures.totals, ttl=FRESH)
