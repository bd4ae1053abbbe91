"""Usage in tests: recorded as the product records it, some time ago, and added up as the nightly job does."""

from datetime import date, datetime, timedelta
from uuid import UUID

from shared.kernel import clock, db, ids
from shared.kernel.caller import Caller
from shared.kernel.db import Tx
from shared.usage import days, service
from shared.usage.model import NewEvent, UsageKind

# Long enough ago for its transaction to have ended, whatever it was.
BEFORE = timedelta(hours=1)


def event_of(
    at: datetime,
    quantity: int = 1,
    kind: UsageKind = UsageKind.TOKENS_INPUT,
    *,
    cost: int = 0,
    ago: timedelta = BEFORE,
    **dimensions: str,
) -> NewEvent:
    """Return an event that occurred at this moment and was recorded `ago`."""
    fresh = ids.new()
    recorded_ms = int((clock.now() - ago).timestamp() * 1000)
    return NewEvent(
        kind=kind,
        quantity=quantity,
        cost_microusd=cost,
        source_id=f"test:{fresh}",
        occurred_at=at,
        dimensions=dimensions,
        id=UUID(int=(recorded_ms << 80) | (fresh.int & ((1 << 80) - 1))),
    )


def used(
    caller: Caller,
    at: datetime,
    quantity: int = 1,
    kind: UsageKind = UsageKind.TOKENS_INPUT,
    *,
    cost: int = 0,
    ago: timedelta = BEFORE,
    **dimensions: str,
) -> NewEvent:
    """Record such an event."""
    event = event_of(at, quantity, kind, cost=cost, ago=ago, **dimensions)
    with db.tenant(caller) as tx:
        record(tx, caller, [event])
    return event


def record(tx: Tx, caller: Caller, events: list[NewEvent]) -> None:
    assert service.record_batch(tx, Caller.system(caller.org_id), events) != []


def add_up(caller: Caller) -> list[date]:
    """Add up all days of the tenant that were touched, and return which these were."""
    system = Caller.system(caller.org_id)
    with db.tenant(system) as tx:
        as_of = days.watermark(tx).now
        touched = days.days_to_add(tx, as_of=as_of)
    for day in touched:
        with db.tenant(system) as tx:
            days.aggregate(tx, system, day)
    with db.tenant(system) as tx:
        days.caught_up(tx, system, as_of=as_of)
    return touched


def forge(caller: Caller, day: date, *, quantity: int) -> None:
    """Make the added up rows of a day wrong, so that whoever reads them can be told from who reads the ledger."""
    with db.tenant(caller) as tx:
        tx.execute("UPDATE usage_daily SET quantity = %s WHERE day = %s", (quantity, day))
