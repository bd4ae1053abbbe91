"""Asks one target after the other until one answers, within the time there is; what each did goes to its health."""

import time
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from shared.inference import health
from shared.inference.answers import Answer, Chunk, Provider
from shared.inference.calls import Tokens
from shared.inference.config import Target
from shared.inference.errors import ProviderAnsweredWrongly
from shared.inference.policy import Route
from shared.inference.trace import Trace
from shared.inference.tries import Tries, at_most, note_failure
from shared.kernel.errors import RunyardError

# No provider says as often that it says nothing yet.
_MOST_OPENING_CHUNKS: Final = 1_000

type BodyFor = Callable[[Target], Mapping[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempted:
    """A whole answer; `attempts` is how many requests it took, `latency_ms` how long the last of them."""

    answer: Answer
    target: Target
    attempts: int
    latency_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Embedded:
    """Vectors in the texts' order; the rest as in `Attempted`."""

    vectors: tuple[tuple[float, ...], ...]
    tokens: Tokens
    target: Target
    attempts: int
    latency_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """A stream that has begun to say something: `first`, then `chunks`, are all of it. Whoever has it closes `chunks`.

    `first_token_ms` is from asking this target to the first chunk with text or a tool call.
    """

    target: Target
    first: Sequence[Chunk]
    chunks: AsyncGenerator[Chunk]
    attempts: int
    first_token_ms: int


async def ask(targets: Sequence[Target], body_for: BodyFor, *, until: float, route: Route, trace: Trace) -> Attempted:
    """Return the first answer that a target gives, asked in their order; `until` is on `time.monotonic`.

    The next one is asked after a fault that the route falls back on. Raises the last error, or `ProviderSuspended` when
    no target may be asked just now.
    """

    def request(provider: Provider, target: Target, key: str, limit_s: float) -> Awaitable[Answer]:
        return provider.chat(target, key, body_for(target), timeout_s=limit_s)

    tries = Tries(route=route, until=until, trace=trace, waiting=deque(targets))
    answer = await tries.until_answered(request)
    await health.board.succeeded(tries.target.key, latency_ms=tries.latency_ms)
    return Attempted(answer=answer, target=tries.target, attempts=tries.count, latency_ms=tries.latency_ms)


async def embed(
    targets: Sequence[Target],
    texts: Sequence[str],
    *,
    dimensions: int | None,
    until: float,
    route: Route,
    trace: Trace,
) -> Embedded:
    """Return one vector for each text; the rest as for `ask`."""

    def request(
        provider: Provider, target: Target, key: str, limit_s: float
    ) -> Awaitable[tuple[tuple[tuple[float, ...], ...], Tokens]]:
        return provider.embed(target, key, texts, dimensions=dimensions, timeout_s=limit_s)

    tries = Tries(route=route, until=until, trace=trace, waiting=deque(targets))
    vectors, tokens = await tries.until_answered(request)
    await health.board.succeeded(tries.target.key, latency_ms=tries.latency_ms)
    return Embedded(
        vectors=vectors, tokens=tokens, target=tries.target, attempts=tries.count, latency_ms=tries.latency_ms
    )


async def begin(targets: Sequence[Target], body_for: BodyFor, *, until: float, route: Route, trace: Trace) -> Begun:
    """Return a stream once it says something; until then the next target is asked as for `ask`. Raises what `ask` does.

    A stream that breaks later is nobody else's to go on with: its chunks raise `StreamBroken`.
    """

    def request(
        provider: Provider, target: Target, key: str, limit_s: float
    ) -> Awaitable[tuple[list[Chunk], AsyncGenerator[Chunk]]]:
        whole_s = at_most(until - time.monotonic(), target.timeout_s)
        return _opened(provider.stream(target, key, body_for(target), first_token_s=limit_s, timeout_s=whole_s))

    tries = Tries(route=route, until=until, trace=trace, waiting=deque(targets), streams=True)
    first, rest = await tries.until_answered(request)
    chunks = _watched(first[-1], rest, tries.target, tries.latency_ms)
    # One that has not begun would not notice that it is closed.
    await anext(chunks)
    return Begun(
        target=tries.target,
        first=first,
        chunks=chunks,
        attempts=tries.count,
        first_token_ms=tries.latency_ms,
    )


async def _opened(chunks: AsyncGenerator[Chunk]) -> tuple[list[Chunk], AsyncGenerator[Chunk]]:
    """Return a stream's chunks up to the first with text or a tool call, and the rest of them."""
    first: list[Chunk] = []
    try:
        async for chunk in chunks:
            first.append(chunk)
            if chunk.text:
                return first, chunks
            if len(first) >= _MOST_OPENING_CHUNKS:
                break
        else:
            if first:
                return first, chunks
    except BaseException:
        await chunks.aclose()
        raise
    await chunks.aclose()
    raise ProviderAnsweredWrongly("The model provider's stream says nothing; try again, or choose another model.")


async def _watched(
    last: Chunk, chunks: AsyncGenerator[Chunk], target: Target, first_token_ms: int
) -> AsyncGenerator[Chunk]:
    """Yield `last` and the rest of a stream, and tell its target's health how it ended, unless its reader goes away."""
    began = time.monotonic()
    try:
        yield last
        async for chunk in chunks:
            yield chunk
    except RunyardError as error:
        await note_failure(target, error, asked_s=first_token_ms / 1000 + time.monotonic() - began)
        raise
    finally:
        await chunks.aclose()
    latency_ms = first_token_ms + round((time.monotonic() - began) * 1000)
    await health.board.succeeded(target.key, latency_ms=latency_ms, first_token_ms=first_token_ms)
