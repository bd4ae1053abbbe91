"""A gateway for tests of the edge alone: it notes what it is asked, and answers what the test says."""

import asyncio
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from shared.inference import chunking
from shared.inference.asking import Ask, CacheControl, Embedded, Reply, Streaming
from shared.inference.calls import Call, Operation, Tokens
from shared.inference.trace import Trace
from shared.kernel import clock, ids
from shared.kernel.caller import Caller

TOKENS = Tokens(input=9, cached=4, output=3, reasoning=1)
ANSWER: dict[str, Any] = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1_700_000_000,
    "model": "m",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello you."}, "finish_reason": "stop"}],
    "usage": chunking.usage_of(TOKENS),
}
CALL = Call(
    id=ids.new(),
    source_id="s",
    operation=Operation.CHAT,
    model="m",
    tokens=TOKENS,
    cost_microusd=7,
    latency_ms=1,
    answer=ANSWER,
    created_at=clock.now(),
    provider="stub",
)
HEAD: dict[str, Any] = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m"}


def chunk(finish_reason: str | None = None, **delta: Any) -> bytes:
    """Return a chunk of a stream with this delta."""
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    return chunking.encode({**HEAD, "choices": [choice]})


@dataclass(slots=True)
class FakeGateway:
    """`answer` and `chunks` may hold errors, which are raised in their place, and numbers: seconds to wait."""

    answer: Mapping[str, Any] | Exception = field(default_factory=lambda: ANSWER)
    chunks: Sequence[bytes | Exception | float] = (
        chunk(role="assistant", content=""),
        chunk(content="Hello"),
        chunk(content=" you."),
        chunk("stop"),
    )
    # How long nothing is answered.
    delay_s: float = 0.0
    known: Trace = field(default_factory=lambda: Trace(provider="stub", request_counted=True, cost_microusd=7))
    asked: list[Ask] = field(default_factory=list)
    embedded: list[dict[str, Any]] = field(default_factory=list)
    # How many whole answers there were.
    completed: int = 0
    # When the chunks of a stream were closed before they had ended, on `time.monotonic`.
    closed_at: float | None = None

    async def complete(self, ask: Ask, trace: Trace) -> Reply:
        self.asked.append(ask)
        await asyncio.sleep(self.delay_s)
        self._tell(trace)
        self.completed += 1
        if isinstance(self.answer, Exception):
            raise self.answer
        return Reply(answer=self.answer, call=CALL)

    async def stream(self, ask: Ask, trace: Trace) -> Streaming:
        self.asked.append(ask)
        first = self.chunks[0]
        if isinstance(first, Exception):
            raise first
        await self._wait(self.delay_s)
        self._tell(trace)
        ended: list[Call] = []
        chunks = self._relayed(ask, ended)
        return Streaming(provider=trace.provider, cache=trace.cache, chunks=chunks, ended=ended)

    async def embed(self, caller: Caller, *, trace: Trace, cache: CacheControl, **asked: Any) -> Embedded:
        self.embedded.append(asked)
        self._tell(trace)
        return Embedded(vectors=[(1.0, 0.5)] * len(asked["texts"]), call=CALL)

    async def models(self, caller: Caller) -> list[dict[str, Any]]:
        return [{"id": name, "object": "model", "created": 0, "owned_by": "x"} for name in ("m", "mine/of/two")]

    async def _relayed(self, ask: Ask, calls: list[Call]) -> AsyncGenerator[bytes]:
        ended = False
        try:
            for each in self.chunks:
                if isinstance(each, Exception):
                    ended = True
                    raise each
                if isinstance(each, float):
                    await self._wait(each)
                else:
                    yield each
            ended = True
            calls.append(replace(CALL, answer=ANSWER if ask.repeatable else {}))
            if ask.include_usage:
                yield chunking.usage_chunk(ANSWER, cost_microusd=7)
        finally:
            if not ended:
                self.closed_at = time.monotonic()

    async def _wait(self, seconds: float) -> None:
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            self.closed_at = time.monotonic()
            raise

    def _tell(self, trace: Trace) -> None:
        trace.provider, trace.cache = self.known.provider, self.known.cache
        trace.counted, trace.provider_ms = self.known.counted, self.known.provider_ms
        trace.cost_microusd, trace.request_counted = self.known.cost_microusd, self.known.request_counted
