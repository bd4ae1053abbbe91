"""What an org pays for a model instead of the book's price, from a moment on; what was in force is never changed."""

from datetime import datetime
from uuid import UUID

from shared.audit import service as audit
from shared.billing import org_prices_store as store
from shared.billing.org_prices_model import OrgPrice, beginning
from shared.billing.prices import TokenPrice
from shared.billing.pricing import prices_at
from shared.kernel import clock, ids
from shared.kernel.caller import Caller
from shared.kernel.db import Tx
from shared.kernel.errors import InvalidRequest, NotFound
from shared.kernel.pagination import Slice


def org_prices_from_now_on(tx: Tx) -> list[OrgPrice]:
    """Return those in force and those to come, the latest first. Of one model the price goes by the first in force."""
    return store.from_now_on(tx, now=clock.now())


def list_org_prices(tx: Tx, asked: Slice) -> list[OrgPrice]:
    """Return up to `limit + 1` prices, the last set first."""
    return store.list_prices(tx, asked)


def set_org_price(
    tx: Tx, caller: Caller, org_id: UUID, *, model: str, effective_from: datetime | None, price: TokenPrice | None
) -> OrgPrice:
    """Set what the org pays for a model from a moment on, by default from as soon as may be; None: the book's price.

    `tx` acts for the org. Raises `InvalidRequest` for a model without a price and for a moment too near, and
    `OrgPriceExists`.
    """
    now = clock.now()
    begins = beginning(effective_from, now)
    if model not in prices_at(begins).models:
        raise InvalidRequest(
            f"No model named {model[:100]!r} has a price then; GET /v1/price-book tells which have.", param="model"
        )
    made = OrgPrice(
        id=ids.new(),
        model=model,
        effective_from=begins,
        price=price,
        created_by=caller.actor_id,
        created_at=now,
    )
    store.insert(tx, made)
    _record(tx, caller, org_id, "price.create", made.id, new=_described(made))
    return made


def delete_org_price(tx: Tx, caller: Caller, org_id: UUID, *, price_id: UUID) -> None:
    """Take back a price that is still to come; raise `NotFound`, and `OrgPriceInForce` once it is too late."""
    found = store.find(tx, price_id)
    if found is not None:
        found.check_to_come(clock.now())
    if found is None or not store.delete(tx, price_id):
        raise NotFound.of("price", ids.show("price", price_id))
    _record(tx, caller, org_id, "price.delete", price_id, old=_described(found))


def _described(price: OrgPrice) -> dict[str, object]:
    figures = price.price
    return {
        "model": price.model,
        "effective_from": price.effective_from.isoformat(),
        "price": None
        if figures is None
        else {
            "input_microusd": figures.input_microusd,
            "cached_microusd": figures.cached_microusd,
            "written_microusd": figures.written_microusd,
            "output_microusd": figures.output_microusd,
        },
    }


def _record(
    tx: Tx,
    caller: Caller,
    org_id: UUID,
    action: str,
    price_id: UUID,
    *,
    old: dict[str, object] | None = None,
    new: dict[str, object] | None = None,
) -> None:
    audit.record(
        tx,
        caller,
        org_id=org_id,
        action=action,
        resource_type="price",
        resource_id=ids.show("price", price_id),
        old=old,
        new=new,
    )
