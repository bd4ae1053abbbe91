"""Use cases of the model gateway: complete, embed, list models. The first two open short transactions of their own."""

from collections.abc import Sequence
from typing import Any

from shared.billing.service import TokenPrice
from shared.inference import metering, openai_provider, store, vectors
from shared.inference.estimating import (
    cost_of_calls,
    dry_run_chat,
    dry_run_embeddings,
    estimate_chat,
    estimate_embeddings,
    probable_tokens,
)
from shared.inference.metering import Plan
from shared.inference.model import (
    DEFAULT_MAX_OUTPUT_TOKENS,
    BudgetExceeded,
    ChatRequest,
    Completion,
    Embeddings,
    ModelNotFound,
    Operation,
    Tokens,
    affordable_output,
    most_embedding_tokens,
)
from shared.inference.retention import forget_answers
from shared.kernel import settings
from shared.kernel.caller import Caller
from shared.kernel.db import Tx

# The door to what calls probably cost.
__all__ = [
    "complete",
    "cost_of",
    "cost_of_calls",
    "cost_under",
    "dry_run_chat",
    "dry_run_embeddings",
    "embed",
    "estimate_chat",
    "estimate_embeddings",
    "forget_answers",
    "list_models",
    "probable_tokens",
    "provider_name",
]

# Below API Gateway's 30 s, so that a silent provider ends in our error and the hold is released.
TIMEOUT_S = 25.0


def complete(
    caller: Caller,
    *,
    request: ChatRequest,
    source_id: str,
    max_cost_microusd: int | None,
    timeout_s: float = TIMEOUT_S,
) -> Completion:
    """Return the model's answer to `request`; the first one again for a `source_id` that has one.

    `max_cost_microusd` None holds the worst case from the tenant's credits and settles the real cost; a number says
    that the caller holds that much already: the answer is then cut short rather than cost more. Raises
    `BudgetExceeded`, `InsufficientCredits`, `ModelNotFound`, `ProviderRefused`, and `ProviderFailed` (with its
    subclasses).
    """
    model = request.model or settings.default_chat_model()

    def plan(price: TokenPrice) -> Plan:
        most_input = request.most_input_tokens()

        def worst(output_tokens: int) -> int:
            return price.most(input_tokens=most_input, output_tokens=output_tokens)

        limit = request.max_output_tokens or DEFAULT_MAX_OUTPUT_TOKENS
        if max_cost_microusd is not None:
            limit = affordable_output(worst, wanted=limit, budget_microusd=max_cost_microusd)
        if limit < 1:
            raise BudgetExceeded(
                f"What is left of the budget, {max_cost_microusd} microusd, doesn't buy one token of an answer to this "
                f"prompt; at worst that costs {worst(1)} microusd. Raise the budget or shorten the prompt."
            )
        body = {**request.options, "model": model, "messages": list(request.messages), "max_completion_tokens": limit}
        if request.tools:
            body["tools"] = list(request.tools)
        return Plan(
            operation=Operation.CHAT,
            model=model,
            price=price,
            most_microusd=worst(limit),
            timeout_s=timeout_s,
            ask=lambda: openai_provider.chat(body, timeout_s=timeout_s),
        )

    return Completion(
        metering.make_once(caller, source_id=source_id, max_cost_microusd=max_cost_microusd, plan=plan, model=model)
    )


def embed(
    caller: Caller,
    *,
    texts: Sequence[str],
    model: str | None,
    source_id: str,
    max_cost_microusd: int | None,
    dimensions: int | None = None,
    timeout_s: float = TIMEOUT_S,
) -> Embeddings:
    """Return one vector for each text, of `dimensions` numbers (None: as many as the model has).

    Credits, repetition and errors as in `complete`.
    """
    wanted = model or settings.default_embedding_model()

    def ask() -> tuple[dict[str, Any], Tokens]:
        found, tokens = openai_provider.embed(texts, model=wanted, dimensions=dimensions, timeout_s=timeout_s)
        return {"vectors": [vectors.encode(vector) for vector in found]}, tokens

    def plan(price: TokenPrice) -> Plan:
        most_input = most_embedding_tokens(texts)
        most = price.most(input_tokens=most_input, output_tokens=0)
        if max_cost_microusd is not None and most > max_cost_microusd:
            raise BudgetExceeded(
                f"What is left of the budget, {max_cost_microusd} microusd, doesn't pay for these embeddings, which "
                f"cost at most {most} microusd. Raise the budget or shorten the texts."
            )
        return Plan(
            operation=Operation.EMBEDDINGS,
            model=wanted,
            price=price,
            most_microusd=most,
            timeout_s=timeout_s,
            ask=ask,
        )

    call = metering.make_once(caller, source_id=source_id, max_cost_microusd=max_cost_microusd, plan=plan, model=wanted)
    return Embeddings(
        vectors=tuple(vectors.decode(text) for text in call.answer["vectors"]),
        model=call.model,
        tokens=call.tokens,
        cost_microusd=call.cost_microusd,
    )


def cost_of(tx: Tx, *, source_id: str) -> int:
    """Return what the call with this source id cost, 0 when there is none."""
    call = store.find_call(tx, source_id)
    return 0 if call is None else call.cost_microusd


def cost_under(tx: Tx, *, source_prefix: str) -> int:
    """Return what all calls whose source id begins with this have cost: a run's calls share such a beginning."""
    return store.cost_under(tx, source_prefix)


def provider_name() -> str:
    """Return who answers: the provider's host."""
    return openai_provider.name()


def list_models(*, timeout_s: float = TIMEOUT_S) -> list[dict[str, Any]]:
    """Return the provider's models that have a price, in OpenAI's format: what can't be metered isn't offered."""
    return [model for model in openai_provider.models(timeout_s=timeout_s) if _has_price(model["id"])]


def _has_price(model: str) -> bool:
    try:
        metering.price_of(model)
    except ModelNotFound:
        return False
    return True
