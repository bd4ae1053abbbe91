"""Makes one model call: sets its worst case aside, asks, and records call, usage and real cost in one transaction.

A call spends money outside the database, so it can't be one transaction. Killed between the provider's answer and the
record, the same source id asks once more and is charged once; the hold that was left behind expires.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from shared.billing import service as billing
from shared.billing.service import TokenPrice
from shared.inference import store
from shared.inference.model import Call, ModelNotFound, Operation, Tokens, shares
from shared.kernel import clock, db, ids, settings
from shared.kernel.caller import Caller
from shared.kernel.db import Tx
from shared.kernel.errors import RunyardError
from shared.kernel.telemetry import logger
from shared.usage import service as usage
from shared.usage.model import NewEvent, UsageKind

_HOLD_AFTER_TIMEOUT = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Plan:
    """A call about to be made: what it costs at most, and how to make it."""

    operation: Operation
    model: str
    price: TokenPrice
    most_microusd: int
    timeout_s: float
    ask: Callable[[], tuple[dict[str, Any], Tokens]]


def make_once(
    caller: Caller, *, source_id: str, max_cost_microusd: int | None, plan: Callable[[TokenPrice], Plan], model: str
) -> Call:
    """Return the recorded call of this source id; if there is none, plan it by the model's price and make it.

    Raises `ModelNotFound` for a model without a price, `InsufficientCredits`, and what `plan` and its `ask` raise.
    """
    with db.tenant(caller) as tx:
        known = store.find_call(tx, source_id)
        if known is not None:
            return known.with_answer()
        asked_at = clock.now()
        planned = plan(price_of(model, at=asked_at))
        hold = None if max_cost_microusd is not None else _hold(tx, caller, planned, source_id)

    began = clock.monotonic_ms()
    try:
        answer, tokens = planned.ask()
    except RunyardError:
        if hold is not None:
            with db.tenant(caller) as tx:
                billing.release(tx, caller, source_id=hold)
        raise
    latency_ms = clock.monotonic_ms() - began

    cost = planned.price.cost(input_tokens=tokens.input, cached_tokens=tokens.cached, output_tokens=tokens.output)
    most = planned.most_microusd if max_cost_microusd is None else max_cost_microusd
    costs = shares([cost.input_microusd, cost.cached_microusd, cost.output_microusd], most=most)
    call = Call(
        id=ids.new(),
        source_id=source_id,
        operation=planned.operation,
        model=planned.model,
        tokens=tokens,
        cost_microusd=sum(costs),
        latency_ms=latency_ms,
        answer=answer,
        # Its usage is priced by when it occurred: prices may change while the provider thinks.
        created_at=asked_at,
    )
    with db.tenant(caller) as tx:
        return _record(tx, caller, call, costs, price=planned.price, hold=hold)


# The entry of the price book for the platform's own default models that have none.
UNLISTED_MODEL = "unlisted"


def price_of(model: str, *, at: datetime | None = None) -> TokenPrice:
    """Return what the model costs, by default now; raise `ModelNotFound`: what has no price isn't offered."""
    at = at or clock.now()
    try:
        return billing.token_price(model, at=at)
    except billing.ModelNotPriced as error:
        if model in (settings.default_chat_model(), settings.default_embedding_model()):
            # The operator set up a model that the book doesn't list, say a local one: it has the price for such.
            return billing.token_price(UNLISTED_MODEL, at=at)
        raise ModelNotFound(
            f"No model named {model[:100]!r} is offered; GET /v1/models tells which are.", param="model"
        ) from error


def _hold(tx: Tx, caller: Caller, planned: Plan, source_id: str) -> str:
    # A hold belongs to one attempt: after a failure the same source id needs a new one.
    hold = f"{source_id}/{ids.new()}"
    billing.hold(
        tx,
        caller,
        # A hold can't be empty, and a few tokens may round to nothing.
        amount_microusd=max(1, planned.most_microusd),
        source_id=hold,
        expires_at=clock.now() + timedelta(seconds=planned.timeout_s) + _HOLD_AFTER_TIMEOUT,
    )
    return hold


def _record(tx: Tx, caller: Caller, call: Call, costs: list[int], *, price: TokenPrice, hold: str | None) -> Call:
    if not store.insert_call(tx, call):
        # Another attempt at the same source id was quicker: its answer stands and this one costs nothing.
        if hold is not None:
            billing.release(tx, caller, source_id=hold)
        first = store.find_call(tx, call.source_id)
        return call if first is None else first
    _record_usage(tx, caller, call, costs, price=price)
    if hold is not None:
        billing.settle(tx, caller, source_id=hold, amount_microusd=call.cost_microusd)
    logger.info(
        "model called",
        extra={
            "source_id": call.source_id,
            "model": call.model,
            "input_tokens": call.tokens.input,
            "output_tokens": call.tokens.output,
            "cost_microusd": call.cost_microusd,
            "provider_ms": call.latency_ms,
        },
    )
    return call


def _record_usage(tx: Tx, caller: Caller, call: Call, costs: list[int], *, price: TokenPrice) -> None:
    counts = {
        UsageKind.TOKENS_INPUT: call.tokens.input - call.tokens.cached,
        UsageKind.TOKENS_CACHED: call.tokens.cached,
        UsageKind.TOKENS_OUTPUT: call.tokens.output,
    }
    used = [
        NewEvent(
            kind=kind,
            quantity=quantity,
            cost_microusd=cost,
            source_id=call.source_id,
            occurred_at=call.created_at,
            dimensions={"model": call.model, "operation": call.operation.value},
            unit_price=price.unit_price(kind),
        )
        for (kind, quantity), cost in zip(counts.items(), costs, strict=True)
        if quantity
    ]
    usage.record_batch(tx, caller, used)
