"""Embeddings: what was embedded before comes from the org's cache and costs nothing, the rest from the provider."""

import time
from collections.abc import Sequence

from shared.inference import attempts, embedding_cache, health, routing, vectors
from shared.inference.asking import CacheControl, Embedded, EmbeddingAsk
from shared.inference.calls import CacheStatus, Call, Operation, Tokens
from shared.inference.errors import BudgetExceeded
from shared.inference.model import most_embedding_tokens
from shared.inference.passage import Passage
from shared.inference.policy import Facts
from shared.inference.trace import Trace
from shared.kernel.caller import Caller

type Vector = tuple[float, ...]


async def embed(
    caller: Caller,
    *,
    texts: Sequence[str],
    model: str | None,
    dimensions: int | None,
    source_id: str,
    repeatable: bool,
    trace: Trace,
    cache: CacheControl,
    max_cost_microusd: int | None = None,
    timeout_s: float,
    limited: bool = False,
    began_ms: int = 0,
    run_id: str = "",
) -> Embedded:
    """Return one vector for each text, of `dimensions` numbers (None: as many as the model has).

    Credits, repetition and errors as in `gateway.complete`.
    """
    ask = EmbeddingAsk(
        caller=caller,
        texts=texts,
        model=model,
        dimensions=dimensions,
        source_id=source_id,
        timeout_s=timeout_s,
        repeatable=repeatable,
        max_cost_microusd=max_cost_microusd,
        run_id=run_id,
        cache=cache,
        began_ms=began_ms,
        limited=limited,
    )
    passage = await Passage.begin(ask, trace, model=model, operation=Operation.EMBEDDINGS)
    await passage.look()
    name = passage.resolved.route.name
    cached: list[Vector | None] = [None] * len(texts)
    if cache.read:
        cached = await embedding_cache.get(caller.org_id, name, dimensions, texts)
    trace.cache = CacheStatus.MISS if cache.read or cache.write else CacheStatus.OFF
    missing = list(dict.fromkeys(text for text, vector in zip(texts, cached, strict=True) if vector is None))
    if not missing:
        return await _from_cache(passage, cached)
    return await _from_provider(passage, ask, cached, missing, name)


async def _from_cache(passage: Passage, cached: Sequence[Vector | None]) -> Embedded:
    found = tuple(vector for vector in cached if vector is not None)
    passage.trace.cache = CacheStatus.HIT
    target = next(iter(passage.resolved.targets.values()))
    passage.trace.provider = target.account.name
    nothing = Tokens(input=0, cached=0, output=0)
    call = await passage.answered(target, nothing, _kept(found), cache=CacheStatus.HIT, latency_ms=0)
    return _embedded(call, found)


async def _from_provider(
    passage: Passage, ask: EmbeddingAsk, cached: Sequence[Vector | None], missing: list[str], name: str
) -> Embedded:
    ordered = routing.decide(
        passage.resolved.route,
        Facts(),
        {target.key: health.board.health(target.key) for target in passage.resolved.targets.values()},
        passage.resolved.targets,
    )
    most_input = most_embedding_tokens(missing)
    most = max(target.price.most(input_tokens=most_input, output_tokens=0) for target in ordered)
    if ask.max_cost_microusd is not None and most > ask.max_cost_microusd:
        raise BudgetExceeded(
            f"What is left of the budget, {ask.max_cost_microusd} microusd, doesn't pay for these embeddings, which "
            f"cost at most {most} microusd. Raise the budget or shorten the texts."
        )
    known = await passage.hold(most)
    if known is not None:
        return _embedded(known.with_answer(), None)
    began = time.monotonic()
    try:
        asked = await attempts.embed(
            ordered,
            missing,
            dimensions=ask.dimensions,
            until=passage.until,
            route=passage.resolved.route,
            trace=passage.trace,
        )
    except BaseException as error:
        await passage.failed(error, None)
        raise
    fresh = dict(zip(missing, asked.vectors, strict=True))
    found = tuple(fresh[text] if vector is None else vector for text, vector in zip(ask.texts, cached, strict=True))
    passage.trace.provider = asked.target.account.name
    call = await passage.answered(
        asked.target,
        asked.tokens,
        _kept(found) if ask.repeatable else {},
        cache=passage.trace.cache,
        latency_ms=round((time.monotonic() - began) * 1000),
    )
    if ask.cache.write:
        await embedding_cache.put(ask.caller.org_id, name, ask.dimensions, fresh)
    # Another attempt at the same source id may have been quicker: then its answer stands.
    return _embedded(call, found if call.id == passage.call_id else None)


def _kept(found: Sequence[Vector]) -> dict[str, list[str]]:
    return {"vectors": [vectors.encode(vector) for vector in found]}


def _embedded(call: Call, found: Sequence[Vector] | None) -> Embedded:
    if found is None:
        found = tuple(vectors.decode(text) for text in call.with_answer().answer["vectors"])
    return Embedded(vectors=found, call=call)
