"""Use cases of the model gateway for the platform's own code: complete, embed, estimate. Customers come by HTTPS."""

from collections.abc import Sequence

from shared.inference import gateway, store
from shared.inference.asking import NO_CACHE, Ask, CacheControl
from shared.inference.estimating import (
    cost_of_calls,
    dry_run_chat,
    dry_run_embeddings,
    estimate_chat,
    estimate_embeddings,
    probable_tokens,
)
from shared.inference.model import ChatRequest, Completion, Embeddings
from shared.inference.retention import forget_answers, forget_content
from shared.inference.trace import Trace
from shared.kernel import clock, looping
from shared.kernel.caller import Caller
from shared.kernel.db import Tx

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
    "forget_content",
    "probable_tokens",
]

# Below API Gateway's 30 s, so that a silent provider ends in our error and the hold is released.
TIMEOUT_S = 25.0
# What was embedded before is embedded again with the same result, whoever of the org asks.
_EMBEDDINGS_CACHE = CacheControl()


def complete(
    caller: Caller,
    *,
    request: ChatRequest,
    source_id: str,
    max_cost_microusd: int | None,
    timeout_s: float = TIMEOUT_S,
    run_id: str = "",
) -> Completion:
    """Return the model's answer to `request`; the first one again for a `source_id` that has one.

    `max_cost_microusd` None holds the worst case from the tenant's credits and settles the real cost; a number says
    that the caller holds that much already: the answer is then cut short rather than cost more. `run_id`: the run whose
    budgets count besides the others. Raises `BudgetExceeded`, `InsufficientCredits`, `ModelNotFound`,
    `ProviderRefused`, and `ProviderFailed` (with its subclasses).
    """
    ask = Ask(
        caller=caller,
        request=request,
        source_id=source_id,
        timeout_s=timeout_s,
        repeatable=True,
        max_cost_microusd=max_cost_microusd,
        run_id=run_id,
        cache=NO_CACHE,
        began_ms=clock.monotonic_ms(),
    )
    reply = looping.run(gateway.complete(ask, Trace()))
    return Completion(call=reply.call, answer=reply.answer)


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

    Credits, repetition and errors as in `complete`. What the org embedded before comes from its cache at no cost.
    """
    found = looping.run(
        gateway.embed(
            caller,
            texts=texts,
            model=model,
            dimensions=dimensions,
            source_id=source_id,
            repeatable=True,
            trace=Trace(),
            cache=_EMBEDDINGS_CACHE,
            max_cost_microusd=max_cost_microusd,
            timeout_s=timeout_s,
            began_ms=clock.monotonic_ms(),
        )
    )
    return Embeddings(
        vectors=tuple(found.vectors), model=found.model, tokens=found.tokens, cost_microusd=found.cost_microusd
    )


def cost_of(tx: Tx, *, source_id: str) -> int:
    """Return what the call with this source id cost, 0 when there is none."""
    return sum(call.cost_microusd for call in store.calls_of(store.ask_for_sources(tx, [source_id])))


def cost_under(tx: Tx, *, source_prefix: str) -> int:
    """Return what all calls whose source id begins with this have cost: a run's calls share such a beginning."""
    return store.cost_under(tx, source_prefix)
