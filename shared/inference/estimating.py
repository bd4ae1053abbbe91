"""What a model call will probably cost, and at most: from prices, and how many tokens a text mostly has."""

import json
from collections.abc import Sequence

from shared.billing import service as billing
from shared.billing.service import DryRun, Estimate
from shared.inference import targets
from shared.inference.model import DEFAULT_MAX_OUTPUT_TOKENS, ChatRequest, most_embedding_tokens
from shared.kernel import settings
from shared.kernel.db import Tx

# OpenAI's rule of thumb for English. Other languages and code have more tokens for their bytes.
_BYTES_PER_TOKEN = 4
# An answer of some paragraphs, where the request sets no lower limit.
TYPICAL_OUTPUT_TOKENS = 500
# One of 1,024 x 1,024 pixels at most of today's models.
TYPICAL_IMAGE_TOKENS = 1_000


def estimate_chat(request: ChatRequest) -> Estimate:
    """Return what this call costs; raise `ModelNotFound`."""
    price = targets.price_of(request.model or settings.default_chat_model())
    limit = request.max_output_tokens or DEFAULT_MAX_OUTPUT_TOKENS
    expected = price.cost(
        input_tokens=probable_input_tokens(request),
        cached_tokens=0,
        output_tokens=min(TYPICAL_OUTPUT_TOKENS, limit),
    )
    worst = price.most(input_tokens=request.most_input_tokens(), output_tokens=limit)
    return billing.by_price_book(expected.total_microusd, worst)


def estimate_embeddings(texts: Sequence[str], *, model: str | None = None) -> Estimate:
    """Return what embedding these texts costs; raise `ModelNotFound`."""
    price = targets.price_of(model or settings.default_embedding_model())
    tokens = sum(probable_tokens(text) for text in texts)
    expected = price.cost(input_tokens=tokens, cached_tokens=0, output_tokens=0)
    return billing.by_price_book(
        expected.total_microusd, price.most(input_tokens=most_embedding_tokens(texts), output_tokens=0)
    )


def dry_run_chat(tx: Tx, request: ChatRequest) -> DryRun:
    """Return what this call costs and what it would be refused with; raise `ModelNotFound`."""
    return _dry_run(tx, "chat", estimate_chat(request))


def dry_run_embeddings(tx: Tx, texts: Sequence[str], *, model: str | None = None) -> DryRun:
    """Return what embedding these texts costs and what it would be refused with; raise `ModelNotFound`."""
    return _dry_run(tx, "embeddings", estimate_embeddings(texts, model=model))


def cost_of_calls(model: str | None, *, input_tokens: int, output_tokens: int) -> int:
    """Return micro-dollars of so many tokens of a model, None being the default one; raise `ModelNotFound`."""
    price = targets.price_of(model or settings.default_chat_model())
    return price.cost(input_tokens=input_tokens, cached_tokens=0, output_tokens=output_tokens).total_microusd


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
