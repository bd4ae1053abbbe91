"""Use cases of the usage ledger: record within the transaction of the effect, list, sum up."""

from datetime import datetime

from shared.kernel import ids
from shared.kernel.caller import Caller
from shared.kernel.db import Tx
from shared.kernel.errors import InvalidRequest
from shared.kernel.pagination import Slice
from shared.usage import store
from shared.usage.model import UsageEvent, UsageKind, UsageTotal


def record(
    tx: Tx,
    caller: Caller,
    *,
    kind: UsageKind,
    quantity: int,
    cost_microusd: int,
    source_id: str,
    occurred_at: datetime,
    dimensions: dict[str, str],
) -> bool:
    """Write down what was used; return False, changing nothing, when this source's use was counted before.

    `tx` is the transaction of the effect itself, so that both are there or neither is. `cost_microusd` is what the
    tenant is charged for it; the costs of one source's kinds add up to what is settled for it.
    """
    return store.insert_event(
        tx,
        event_id=ids.new(),
        org_id=caller.org_id,
        kind=kind,
        quantity=quantity,
        cost_microusd=cost_microusd,
        source_id=source_id,
        dimensions=dimensions,
        occurred_at=occurred_at,
    )


def list_events(tx: Tx, asked: Slice, *, kind: UsageKind | None = None) -> list[UsageEvent]:
    """Return up to `limit + 1` events, last recorded first."""
    return store.list_events(tx, asked, kind=kind)


def summary(tx: Tx, *, since: datetime, until: datetime) -> list[UsageTotal]:
    """Return the total of each kind that occurred in `since <= t < until`, kinds without use included as 0."""
    if until <= since:
        raise InvalidRequest("until: must be later than since.", param="until")
    used = store.totals(tx, since=since, until=until)
    return [used.get(kind, UsageTotal(kind, 0, 0)) for kind in UsageKind]
