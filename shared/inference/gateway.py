"""The model gateway: one request to one answer, by way of caches, budgets, credits, routes and providers."""

import time
from collections.abc import AsyncGenerator, Mapping
from dataclasses import replace
from typing import Any

from shared.inference import attempts, caching, chunking, costing, ensemble, health, routing
from shared.inference.answers import Answer, Chunk
from shared.inference.asking import Ask, Reply, Streaming
from shared.inference.attempts import Begun
from shared.inference.caching import Entry, Found
from shared.inference.calls import CacheStatus, Call, Operation, Outcome, Tokens
from shared.inference.chunking import Assembly
from shared.inference.config import Target
from shared.inference.embedding import embed as embed
from shared.inference.estimating import probable_input_tokens, probable_tokens
from shared.inference.model import DEFAULT_MAX_OUTPUT_TOKENS
from shared.inference.offering import models as models
from shared.inference.passage import Passage
from shared.inference.policy import Facts
from shared.inference.trace import Trace
from shared.kernel import clock, ids
from shared.kernel.errors import ProviderFailed, RunyardError


async def complete(ask: Ask, trace: Trace) -> Reply:
    """Return the whole answer; the first one again for a source id that has one.

    Raises `ModelNotFound`, `RateLimited`, `BudgetExceeded`, `InsufficientCredits`, `ProviderRefused`, `NotServed` and
    `ProviderFailed` with its subclasses.
    """
    passage = await Passage.begin(ask, trace, model=ask.request.model, operation=Operation.CHAT)
    if passage.resolved.route.ensemble is not None:
        return await ensemble.complete(passage, ask, trace, one=complete)
    key = _cache_key(passage, ask)
    looked = await passage.look(cache_key=key, read=ask.cache.read, lead=ask.cache.read, fresh_s=_fresh_s(passage, ask))
    found, leads = _fresh(looked.entry, passage, ask), looked.leads
    if found is None and key is not None and ask.cache.read and not leads:
        found, leads = await _follow(key, passage, ask)
    if found is not None:
        return _reply(await passage.came_from_cache(found, CacheStatus.HIT), found)
    trace.cache = CacheStatus.OFF if key is None else CacheStatus.MISS
    try:
        return await _ask_providers(passage, ask, key, old=looked.entry)
    finally:
        # Nothing happens when the answer was handed to those who follow.
        if leads and key is not None:
            await caching.give_up(key)


async def stream(ask: Ask, trace: Trace) -> Streaming:
    """Return once the first chunk of the answer is there; until then other candidates are fallen back on.

    Raises what `complete` raises; its chunks raise `StreamBroken`. A stream reads from the cache and fills it, and
    waits for no other call.
    """
    passage = await Passage.begin(ask, trace, model=ask.request.model, operation=Operation.CHAT)
    if passage.resolved.route.ensemble is not None:
        return _as_stream(await ensemble.complete(passage, ask, trace, one=complete), ask)
    key = _cache_key(passage, ask)
    looked = await passage.look(cache_key=key, read=ask.cache.read)
    found = _fresh(looked.entry, passage, ask)
    if found is not None:
        call = await passage.came_from_cache(found, CacheStatus.HIT, streamed=True)
        return _as_stream(_reply(call, found), ask)
    trace.cache = CacheStatus.OFF if key is None else CacheStatus.MISS
    ordered = _order(passage, ask)
    plan = costing.plan(ordered, ask.request, max_cost_microusd=ask.max_cost_microusd)
    known = await passage.hold(plan.most_microusd)
    if known is not None:
        return _as_stream(_repeated(known), ask)
    try:
        begun = await attempts.begin(
            [target for target in ordered if target.key in plan.limits],
            lambda target: costing.body_of(ask.request, target, plan.limits[target.key]),
            until=passage.until,
            route=passage.resolved.route,
            trace=trace,
        )
    except BaseException as error:
        await passage.failed(error, None, streamed=True)
        if (stale := await _stale(looked.entry, error, passage, ask, streamed=True)) is not None:
            return _as_stream(stale, ask)
        raise
    trace.provider = begun.target.account.name
    ended: list[Call] = []
    chunks = _relayed(passage, ask, begun, key, ended)
    # One that never began could not be closed, and what it holds would be held for long.
    await anext(chunks)
    return Streaming(provider=begun.target.account.name, cache=trace.cache, chunks=chunks, ended=ended)


async def _ask_providers(passage: Passage, ask: Ask, key: str | None, *, old: bytes | None) -> Reply:
    ordered = _order(passage, ask)
    plan = costing.plan(ordered, ask.request, max_cost_microusd=ask.max_cost_microusd)
    known = await passage.hold(plan.most_microusd)
    if known is not None:
        return _repeated(known)
    try:
        asked = await attempts.ask(
            [target for target in ordered if target.key in plan.limits],
            lambda target: costing.body_of(ask.request, target, plan.limits[target.key]),
            until=passage.until,
            route=passage.resolved.route,
            trace=passage.trace,
        )
    except BaseException as error:
        await passage.failed(error, None)
        if (stale := await _stale(old, error, passage, ask)) is not None:
            return stale
        raise
    passage.trace.provider = asked.target.account.name
    answer = asked.answer
    call = await passage.answered(
        asked.target,
        answer.tokens,
        answer.body,
        cache=passage.trace.cache,
        latency_ms=asked.latency_ms,
        finish_reason=_finish_reason(answer.body),
    )
    if key is not None:
        await _keep(key, passage, ask, asked.target, answer)
    # Another attempt at the same source id may have been quicker: then its answer stands. What is kept of ours may be
    # redacted; what is given never is.
    return Reply(answer=answer.body if call.id == passage.call_id else call.with_answer().answer, call=call)


async def _relayed(
    passage: Passage, ask: Ask, begun: Begun, key: str | None, ended: list[Call]
) -> AsyncGenerator[bytes]:
    """Yield nothing at first, then the chunks as they come; and settle what was produced however it ends."""
    assembly, began, before_ms = Assembly(), time.monotonic(), passage.trace.provider_ms
    outcome, failure = Outcome.CANCELLED, None
    try:
        yield b""
        async for chunk in _all_of(begun):
            assembly.add(chunk)
            if chunk.body.get("choices"):
                yield chunking.encode(_without_usage(chunk.body))
        outcome = Outcome.OK
    except RunyardError as error:
        outcome, failure = Outcome.BROKEN, error
    finally:
        await begun.chunks.aclose()
        tokens = assembly.tokens or _own_count(ask, assembly)
        streamed_ms = round((time.monotonic() - began) * 1000)
        passage.trace.provider_ms = before_ms + streamed_ms
        answer = assembly.answer(tokens)
        call = await passage.answered(
            begun.target,
            tokens,
            answer,
            outcome=outcome,
            cache=passage.trace.cache,
            latency_ms=begun.first_token_ms + streamed_ms,
            first_token_ms=begun.first_token_ms,
            estimated=assembly.tokens is None,
            streamed=True,
            error_code=failure.code if failure else None,
            finish_reason=assembly.finish_reason,
        )
        ended.append(call)
    if failure is not None:
        raise failure
    if key is not None:
        await _keep(key, passage, ask, begun.target, Answer(body=answer, tokens=tokens))
    if ask.include_usage:
        yield chunking.usage_chunk(answer, cost_microusd=call.cost_microusd)


async def _all_of(begun: Begun) -> AsyncGenerator[Chunk]:
    for chunk in begun.first:
        yield chunk
    async for chunk in begun.chunks:
        yield chunk


def _without_usage(body: Mapping[str, Any]) -> Mapping[str, Any]:
    # Some providers tell the usage with the last choice; it is the gateway's to tell, if it was asked to.
    return {name: value for name, value in body.items() if name != "usage"} if "usage" in body else body


def _own_count(ask: Ask, assembly: Assembly) -> Tokens:
    return Tokens(
        input=probable_input_tokens(ask.request),
        cached=0,
        output=min(probable_tokens(assembly.generated), ask.request.max_output_tokens or DEFAULT_MAX_OUTPUT_TOKENS),
    )


def _order(passage: Passage, ask: Ask) -> list[Target]:
    resolved, request = passage.resolved, ask.request
    facts = Facts(beyond=request.beyond)
    if resolved.named:
        tokens = probable_input_tokens(request)
        facts = Facts(
            task=ask.task,
            input_tokens=tokens,
            tools=bool(request.tools),
            images=request.images > 0,
            beyond=request.beyond,
            prices={name: costing.probable(target, request, tokens) for name, target in resolved.targets.items()},
        )
    known = {target.key: health.board.health(target.key) for target in resolved.targets.values()}
    return routing.decide(resolved.route, facts, known, resolved.targets)


def _cache_key(passage: Passage, ask: Ask) -> str | None:
    if not (ask.cache.read or ask.cache.write) or passage.config.settings.cache_ttl_s == 0:
        return None
    return caching.key(
        ask.caller.org_id,
        operation=Operation.CHAT,
        model_or_route=passage.resolved.cache_name,
        request=ask.request,
    )


def _fresh_s(passage: Passage, ask: Ask) -> int:
    return caching.fresh_s(ask.cache, passage.config.settings.cache_ttl_s)


def _fresh(raw: bytes | None, passage: Passage, ask: Ask) -> Found | None:
    return caching.read(raw, control=ask.cache, ttl_s=passage.config.settings.cache_ttl_s)


async def _follow(key: str, passage: Passage, ask: Ask) -> tuple[Found | None, bool]:
    """Wait for the call that asks the same already; return its answer, or whether this one leads from now on."""
    while time.monotonic() < passage.until:
        found = _fresh(await caching.follow(key, until=passage.until), passage, ask)
        if found is not None:
            return found, False
        if await caching.try_lead(key, lead_s=passage.until - time.monotonic()):
            return None, True
    return None, False


async def _stale(
    raw: bytes | None, error: BaseException, passage: Passage, ask: Ask, *, streamed: bool = False
) -> Reply | None:
    """Return the old answer, if there is one that the caller takes rather than this error."""
    found = caching.stale(raw, control=ask.cache, ttl_s=passage.config.settings.cache_ttl_s)
    if found is None or not isinstance(error, ProviderFailed):
        return None
    again = replace(passage, call_id=ids.new(), opened=None)
    return _reply(await again.came_from_cache(found, CacheStatus.STALE, streamed=streamed), found)


async def _keep(key: str, passage: Passage, ask: Ask, target: Target, answer: Answer) -> None:
    entry = Entry(
        answer=answer.body,
        model=target.shown_as,
        provider=target.account.name,
        tokens=answer.tokens,
        stored_at=clock.now(),
    )
    await caching.put(key, entry, passage.config.settings.cache_ttl_s if ask.cache.write else 0)


def _finish_reason(answer: Mapping[str, Any]) -> str | None:
    reason: str | None = answer["choices"][0].get("finish_reason")
    return reason


def _reply(call: Call, found: Found) -> Reply:
    return Reply(answer=found.entry.answer, call=call, age_s=found.age_s)


def _repeated(known: Call) -> Reply:
    call = known.with_answer()
    return Reply(answer=call.answer, call=call, repeated=True)


def _as_stream(reply: Reply, ask: Ask) -> Streaming:
    """Return an answer that is whole already as a stream."""

    async def chunks() -> AsyncGenerator[bytes]:
        for chunk in chunking.chunks_of(reply.answer):
            yield chunk
        if ask.include_usage:
            yield chunking.usage_chunk(reply.answer, cost_microusd=reply.call.cost_microusd)

    return Streaming(
        provider=reply.call.provider, cache=reply.cache, chunks=chunks(), age_s=reply.age_s, ended=[reply.call]
    )
