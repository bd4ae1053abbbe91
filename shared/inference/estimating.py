"""What a model call will probably cost, and at most: from prices, and how many tokens a text mostly has."""

import json
from collections.abc import Sequence

from shared.billing import service as billing
from shared.billing.service import DryRun, Estimate
from shared.inference import config_store, targets
from shared.inference.calls import Operation
from shared.inference.config import OrgConfig
from shared.inference.model import DEFAULT_MAX_OUTPUT_TOKENS, ChatRequest, most_embedding_tokens
from shared.kernel.caller import Caller
from shared.kernel.db import Tx

# OpenAI's rule of thumb for English. Other languages and code have more tokens for their bytes.
_BYTES_PER_TOKEN = 4
# An answer of some paragraphs, where the request sets no lower limit.
TYPICAL_OUTPUT_TOKENS = 500
# One of 1,024 x 1,024 pixels at most of today's models.
TYPICAL_IMAGE_TOKENS = 1_000


def estimate_chat(tx: Tx, caller: Caller, request: ChatRequest) -> Estimate:
    """Return what this call costs the caller's org; raise `ModelNotFound`."""
    return of_chat(config_store.load(tx, caller), request)


def of_chat(config: OrgConfig, request: ChatRequest) -> Estimate:
    """Return what this call costs: the dearest candidate at worst, all calls of an ensemble; raise `ModelNotFound`."""
    limit = request.max_output_tokens or DEFAULT_MAX_OUTPUT_TOKENS
    expected_input, most_input = probable_input_tokens(request), request.most_input_tokens()
    prices = targets.prices(config, request.model, operation=Operation.CHAT)
    expected = [
        price.cost(
            input_tokens=expected_input, cached_tokens=0, output_tokens=min(TYPICAL_OUTPUT_TOKENS, limit)
        ).total_microusd
        for price in prices
    ]
    worst = [price.most(input_tokens=most_input, output_tokens=limit) for price in prices]
    route = config.routes.get(request.model or "")
    if route is not None and route.ensemble is not None:
        return billing.by_price_book(sum(expected), sum(worst))
    return billing.by_price_book(expected[0], max(worst))


def estimate_embeddings(tx: Tx, caller: Caller, texts: Sequence[str], *, model: str | None = None) -> Estimate:
    """Return what embedding these texts costs the caller's org; raise `ModelNotFound`."""
    return of_embeddings(config_store.load(tx, caller), texts, model=model)


def of_embeddings(config: OrgConfig, texts: Sequence[str], *, model: str | None = None) -> Estimate:
    """Return what embedding these texts costs; raise `ModelNotFound`."""
    prices = targets.prices(config, model, operation=Operation.EMBEDDINGS)
    tokens = sum(probable_tokens(text) for text in texts)
    expected = prices[0].cost(input_tokens=tokens, cached_tokens=0, output_tokens=0)
    most_input = most_embedding_tokens(texts)
    worst = max(price.most(input_tokens=most_input, output_tokens=0) for price in prices)
    return billing.by_price_book(expected.total_microusd, worst)


def dry_run_chat(tx: Tx, caller: Caller, request: ChatRequest) -> DryRun:
    """Return what this call costs and what it would be refused with; raise `ModelNotFound`."""
    return _dry_run(tx, "chat", estimate_chat(tx, caller, request))


def dry_run_embeddings(tx: Tx, caller: Caller, texts: Sequence[str], *, model: str | None = None) -> DryRun:
    """Return what embedding these texts costs and what it would be refused with; raise `ModelNotFound`."""
    return _dry_run(tx, "embeddings", estimate_embeddings(tx, caller, texts, model=model))


def cost_of_calls(tx: Tx, caller: Caller, model: str | None, *, input_tokens: int, output_tokens: int) -> int:
    """Return micro-dollars of so many tokens of a model, None being the default one; raise `ModelNotFound`."""
    prices = targets.prices(config_store.load(tx, caller), model, operation=Operation.CHAT)
    return prices[0].cost(input_tokens=input_tokens, cached_tokens=0, output_tokens=output_tokens).total_microusd


def probable_tokens(text: str) -> int:
    """Return how many tokens a text of this length mostly has."""
    return -(-len(text.encode()) // _BYTES_PER_TOKEN)


def probable_input_tokens(request: ChatRequest) -> int:
    """Return how many tokens this prompt mostly has."""
    asked = [*request.texts(), *request.tools, dict(request.options)]
    texts = sum(probable_tokens(json.dumps(part, ensure_ascii=False)) for part in asked if part)
    return texts + request.images * TYPICAL_IMAGE_TOKENS


def _dry_run(tx: Tx, kind: str, estimate: Estimate) -> DryRun:
    refusal = billing.first_refusal(lambda: billing.check_affordable(tx, estimate.worst_microusd))
    return DryRun(kind, estimate, refusal)
