"""Every five minutes: closes windows of counted requests, adds touched days up again, renews today's figures."""

from datetime import datetime
from functools import partial
from typing import Any
from uuid import UUID

from aws_lambda_powertools.utilities.typing import LambdaContext

from shared.billing import service as billing
from shared.kernel import clock, db
from shared.kernel.caller import Caller
from shared.kernel.errors import InternalError
from shared.kernel.sweeping import sweep
from shared.kernel.telemetry import invoked
from shared.usage import calls, days, today

_PAGE = 1000


def close_windows(before: datetime, org_id: UUID) -> int:
    caller = Caller.system(org_id)
    closed = 0
    while True:
        with db.tenant(caller) as tx:
            taken = calls.take_closed(tx, before=before)
            if billing.meter(tx, caller, taken) != len(taken):
                # Rolled back, what was taken is in its counters again.
                raise InternalError("Counted requests had a source that was used before.")
        closed += len(taken)
        if len(taken) < calls.AT_ONCE:
            return closed


def add_up_days(org_id: UUID) -> int:
    """Add up the days that were touched since all were, be it minutes or a day ago."""
    caller = Caller.system(org_id)
    with db.tenant(caller) as tx:
        as_of = days.watermark(tx).now
        touched = days.days_to_add(tx, as_of=as_of)
    for day in touched:
        with db.tenant(caller) as tx:
            days.aggregate(tx, caller, day)
    with db.tenant(caller) as tx:
        days.caught_up(tx, caller, as_of=as_of)
    return len(touched)


def renew_today(org_id: UUID) -> int:
    caller = Caller.system(org_id)
    with db.tenant(caller) as tx:
        figures = today.counted(tx)
    today.keep(caller, figures)
    return 1


def orgs_to_flush(before: datetime) -> list[UUID]:
    """Return the tenants with windows to close, or with events that are not in their days yet."""
    with db.anonymous() as tx:
        found = set(calls.orgs_to_close(tx, before=before))
        after: UUID | None = None
        while page := days.orgs_to_aggregate(tx, after=after, amount=_PAGE):
            found.update(page)
            after = page[-1]
    return sorted(found)


@invoked
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, int]:
    before = calls.closed_before(clock.now())
    return sweep(
        orgs_to_flush(before),
        # Windows first: what they become belongs to days and to today's figures.
        {"windows": partial(close_windows, before), "days": add_up_days, "today": renew_today},
    )
