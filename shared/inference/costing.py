"""What a call costs at most and really, and the usage events that its cost is made of."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from shared.billing.service import TokenPrice
from shared.inference.calls import Call, Tokens
from shared.inference.config import Target
from shared.inference.errors import BudgetExceeded
from shared.inference.estimating import TYPICAL_OUTPUT_TOKENS
from shared.inference.model import DEFAULT_MAX_OUTPUT_TOKENS, ChatRequest, affordable_output, shares
from shared.usage.model import NewEvent, UsageKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How each target may be asked: with how long an answer at most, and what the dearest of them costs then."""

    limits: Mapping[str, int]
    most_microusd: int


def plan(targets: Sequence[Target], request: ChatRequest, *, max_cost_microusd: int | None) -> Plan:
    """Return what the request may cost at each target; raise `BudgetExceeded` when none could give a single token."""
    most_input = request.most_input_tokens()
    wanted = request.max_output_tokens or DEFAULT_MAX_OUTPUT_TOKENS
    limits, most, least = {}, 0, None
    for target in targets:
        worst = partial(_most, target.price, most_input)
        limit = wanted
        if max_cost_microusd is not None:
            limit = affordable_output(worst, wanted=wanted, budget_microusd=max_cost_microusd)
        if limit < 1:
            least = min(worst(1), least or worst(1))
            continue
        limits[target.key] = limit
        most = max(most, worst(limit))
    if not limits:
        raise BudgetExceeded(
            f"What is left of the budget, {max_cost_microusd} microusd, doesn't buy one token of an answer to this "
            f"prompt; at worst that costs {least} microusd. Raise the budget or shorten the prompt."
        )
    return Plan(limits=limits, most_microusd=most)


def _most(price: TokenPrice, input_tokens: int, output_tokens: int) -> int:
    return price.most(input_tokens=input_tokens, output_tokens=output_tokens)


def probable(target: Target, request: ChatRequest, input_tokens: int) -> int:
    """Return micro-dollars of a call with so many tokens of a prompt and a typical answer."""
    output_tokens = min(TYPICAL_OUTPUT_TOKENS, request.max_output_tokens or DEFAULT_MAX_OUTPUT_TOKENS)
    cost = target.price.cost(input_tokens=input_tokens, cached_tokens=0, output_tokens=output_tokens)
    return cost.total_microusd


def body_of(request: ChatRequest, target: Target, limit: int) -> dict[str, Any]:
    """Return OpenAI's request for this target."""
    body = {**request.options, "model": target.model, "messages": request.messages, "max_completion_tokens": limit}
    if request.tools:
        body["tools"] = request.tools
    return body


def cost_of(price: TokenPrice, tokens: Tokens, *, most_microusd: int) -> list[int]:
    """Return micro-dollars of input, cached, written and output, the last ones cut so that the sum is at most that."""
    cost = price.cost(
        input_tokens=tokens.input,
        cached_tokens=tokens.cached,
        written_tokens=tokens.written,
        output_tokens=tokens.output,
    )
    parts = [cost.input_microusd, cost.cached_microusd, cost.written_microusd, cost.output_microusd]
    return shares(parts, most=most_microusd)


def events_of(call: Call, costs: Sequence[int], price: TokenPrice) -> list[NewEvent]:
    """Return the usage events of a call; its costs are `cost_of`'s."""
    tokens = call.tokens
    counts = {
        UsageKind.TOKENS_INPUT: tokens.input - tokens.cached - tokens.written,
        UsageKind.TOKENS_CACHED: tokens.cached,
        UsageKind.TOKENS_CACHE_WRITTEN: tokens.written,
        UsageKind.TOKENS_OUTPUT: tokens.output,
    }
    dimensions = {
        **call.attribution.dimensions(),
        "model": call.model,
        "operation": call.operation.value,
        "provider": call.provider,
    }
    return [
        NewEvent(
            kind=kind,
            quantity=quantity,
            cost_microusd=cost,
            source_id=call.source_id,
            occurred_at=call.created_at,
            dimensions=dimensions,
            unit_price=price.unit_price(kind),
        )
        for (kind, quantity), cost in zip(counts.items(), costs, strict=True)
        if quantity
    ]
