"""Use cases of the usage ledger: record within the transaction of the effect, list, sum up."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from uuid import UUID

from shared.kernel.caller import Caller
from shared.kernel.db import Tx
from shared.kernel.errors import InvalidRequest
from shared.kernel.pagination import Slice
from shared.usage import queue, store
from shared.usage.ingest_schemas import UsageMessage
from shared.usage.model import FREE, Metered, NewEvent, UnitPrice, UsageEvent, UsageKind, UsageTotal


def record(
    tx: Tx,
    caller: Caller,
    *,
    kind: UsageKind,
    quantity: int,
    cost_microusd: int,
    source_id: str,
    occurred_at: datetime,
    dimensions: Mapping[str, str],
    unit_price: UnitPrice = FREE,
) -> bool:
    """Write down what was used; return False, changing nothing, when this source's use was counted before.

    `tx` is the transaction of the effect itself, so that both are there or neither is. `cost_microusd` is what the
    tenant is charged for it; the costs of one source's kinds add up to what is settled for it.
    """
    event = NewEvent(
        kind=kind,
        quantity=quantity,
        cost_microusd=cost_microusd,
        source_id=source_id,
        occurred_at=occurred_at,
        dimensions=dimensions,
        unit_price=unit_price,
    )
    return bool(record_batch(tx, caller, [event]))


def record_batch(tx: Tx, caller: Caller, events: Sequence[NewEvent]) -> list[NewEvent]:
    """Write down those events that were never counted before, in one round trip, and return exactly those.

    Whose use it is, is added to their dimensions where they don't say. Of two events with the same source and kind
    the first counts. Two batches at once never wait for each other in a circle: each claims in the same order.
    """
    once = _once(caller, events)
    return store.insert_events(tx, caller.org_id, once) if once else []


def record_piped(tx: Tx, caller: Caller, events: Sequence[NewEvent]) -> None:
    """Do as `record_batch`, within a pipeline, without waiting to learn which of them were new."""
    once = _once(caller, events)
    if once:
        store.send_events(tx, caller.org_id, once)


def _once(caller: Caller, events: Sequence[NewEvent]) -> list[NewEvent]:
    known = caller.attribution.dimensions()
    once: dict[tuple[str, UsageKind], NewEvent] = {}
    for event in events:
        attributed = event if known.keys() <= event.dimensions.keys() else _attributed(event, known)
        once.setdefault((event.source_id, event.kind), attributed)
    return [once[key] for key in sorted(once)]


def put_on_queue(org_id: UUID, events: Sequence[Metered]) -> None:
    """Hand over what was measured elsewhere, to be metered soon; raise `Unavailable`: then send all of it again."""
    queue.put(UsageMessage.write(org_id, events))


def _attributed(event: NewEvent, known: Mapping[str, str]) -> NewEvent:
    return replace(event, dimensions={**known, **event.dimensions})


def list_events(tx: Tx, asked: Slice, *, kind: UsageKind | None = None) -> list[UsageEvent]:
    """Return up to `limit + 1` events, last recorded first."""
    return store.list_events(tx, asked, kind=kind)


def summary(tx: Tx, *, since: datetime, until: datetime) -> list[UsageTotal]:
    """Return the total of each kind that occurred in `since <= t < until`, kinds without use included as 0."""
    if until <= since:
        raise InvalidRequest("until: must be later than since.", param="until")
    used = store.totals(tx, since=since, until=until)
    return [used.get(kind, UsageTotal(kind, 0, 0)) for kind in UsageKind]
