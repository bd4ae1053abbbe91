"""Meters what was used already: priced by when it occurred, counted once, and charged in the same transaction."""

from collections.abc import Sequence

from shared.billing import ledger, pricing
from shared.kernel import ids
from shared.kernel.caller import Caller
from shared.kernel.db import Tx
from shared.usage import service as usage
from shared.usage.model import Metered, NewEvent


def meter(tx: Tx, caller: Caller, events: Sequence[Metered]) -> int:
    """Price, record and charge these events; return how many had not been counted before.

    All of them are charged by one entry, whose source is the first of the new ones. What the credits don't cover is
    owed. Raises `ModelNotPriced`, `NotPriced` and `CannotPrice`, having changed nothing.
    """
    counted = usage.record_batch(tx, caller, [_priced(event) for event in events])
    cost = sum(event.cost_microusd for event in counted)
    if cost:
        source = f"usage:{ids.show('usage', next(event.id for event in counted if event.cost_microusd))}"
        ledger.charge(tx, caller, amount_microusd=cost, source_id=source, reason="metered")
    return len(counted)


def check_metered(events: Sequence[Metered]) -> None:
    """Raise what `meter` would about what has no price."""
    for event in events:
        _priced(event)


def _priced(event: Metered) -> NewEvent:
    priced = pricing.price_of(event.kind, event.quantity, event.dimensions, at=event.occurred_at)
    return NewEvent(
        kind=event.kind,
        quantity=event.quantity,
        cost_microusd=priced.cost_microusd,
        source_id=event.source_id,
        occurred_at=event.occurred_at,
        dimensions=event.dimensions,
        unit_price=priced.unit_price,
    )
