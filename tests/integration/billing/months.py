"""Subscriptions that were opened a while ago, and two at once that change one."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

from shared.kernel import db
from shared.kernel.caller import Caller
from tests.waiting import until


def age(org: Caller, by: timedelta) -> None:
    """Make the org's subscription as if it had been opened that much earlier, and nobody looked at it since."""
    with db.tenant(org) as tx:
        tx.execute(
            "UPDATE subscriptions SET anchor = anchor - %(by)s, period_start = period_start - %(by)s,"
            " period_end = period_start - %(by)s + interval '1 month'",
            {"by": by},
        )


def while_open[T](org: Caller, first: Callable[[db.Tx], T], second: Callable[[], T]) -> tuple[T, T]:
    """Do the first in a transaction that is committed only once the second, begun meanwhile, waits for it."""
    with ThreadPoolExecutor(1) as pool:
        with db.tenant(org) as tx:
            done = first(tx)
            other = pool.submit(second)
            until(lambda: other.done() or _somebody_waits(), "the second to wait")
        return done, other.result()


def _somebody_waits() -> bool:
    with db.anonymous() as tx:
        row = tx.execute(
            "SELECT count(*) AS n FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        ).fetchone()
    return row is not None and row["n"] > 0
