"""Answers in server-sent events: begun with the first chunk, kept alive in silences, ended when the client goes."""

import asyncio
from collections.abc import Mapping
from typing import Any, Protocol

from shared.inference.asking import Ask, Streaming
from shared.inference.calls import CacheStatus, Call, Outcome
from shared.inference.edge import headers
from shared.inference.edge.exchange import Exchange
from shared.inference.edge.once import Claim
from shared.inference.edge.reading import ClientGone
from shared.kernel import envelope
from shared.kernel.idempotency import Replay

SILENCE_S = 15.0
_KEEP_ALIVE = b": keep-alive\n\n"


class Frames(Protocol):
    """Turns the gateway's chunks (OpenAI's, as JSON) into the events of an endpoint."""

    def opening(self) -> bytes:
        """Return what comes before the first chunk."""
        ...

    def chunk(self, chunk: bytes) -> bytes:
        """Return the events of one chunk, empty if there are none."""
        ...

    def closing(self) -> bytes:
        """Return what comes after the last chunk."""
        ...

    def failed(self, error: Mapping[str, Any]) -> bytes:
        """Return the event with which a broken answer ends."""
        ...

    def kept(self, call: Call, /) -> dict[str, Any]:
        """Return what is kept of a whole answer for its Idempotency-Key."""
        ...

    def replay(self, kept: Mapping[str, Any]) -> bytes:
        """Return all events of an answer that was kept."""
        ...


async def answer(exchange: Exchange, ask: Ask, claim: Claim, frames: Frames) -> None:
    """Answer with a stream. Until its first chunk is there errors are raised; `ClientGone` once nobody listens."""
    try:
        await claim.reserve()
    except Replay as replay:
        await exchange.admit()
        await exchange.start(200, [*headers.EVENTS, (b"idempotency-replayed", b"true")], cost_microusd=0)
        await exchange.send({"type": "http.response.body", "body": frames.replay(replay.body)})
        return
    try:
        await _Relay(exchange, ask, claim, frames).run()
    finally:
        await claim.release()


class _Relay:
    """Passes one stream on. One task does it, another watches for the client's end and for silences."""

    def __init__(self, exchange: Exchange, ask: Ask, claim: Claim, frames: Frames) -> None:
        self._exchange, self._ask, self._claim, self._frames = exchange, ask, claim, frames
        self._loop = asyncio.get_running_loop()
        self._spoke = self._loop.time()
        self._open = False
        self._gone = False

    async def run(self) -> None:
        work = asyncio.ensure_future(self._work())
        watch = asyncio.ensure_future(self._watch(work))
        try:
            await work
        except asyncio.CancelledError:
            if not self._gone:
                raise
            raise ClientGone from None
        finally:
            self._open = False
            watch.cancel()

    async def _work(self) -> None:
        exchange = self._exchange
        streaming = await exchange.gateway.stream(self._ask, exchange.trace)
        chunks = streaming.chunks
        try:
            # At once: a generator that has begun settles what it holds however it ends, another one doesn't.
            first = await anext(chunks, None)
            free = streaming.cache in (CacheStatus.HIT, CacheStatus.STALE)
            await exchange.start(200, headers.EVENTS, cost_microusd=0 if free else None)
            self._open = True
            await self._relay(streaming, first)
        finally:
            await chunks.aclose()

    async def _relay(self, streaming: Streaming, first: bytes | None) -> None:
        frames = self._frames
        try:
            if first is not None:
                await self._say(frames.opening() + frames.chunk(first))
                async for chunk in streaming.chunks:
                    await self._say(frames.chunk(chunk))
            last = frames.closing()
        except Exception as error:  # noqa: BLE001 - the status is sent: what went wrong is told in the stream
            shown = envelope.shown_as(error, request_id=self._exchange.request_id)
            last = frames.failed(envelope.show(shown, request_id=self._exchange.request_id))
        else:
            if streaming.call is not None and streaming.call.outcome is Outcome.OK and self._claim.repeatable:
                await self._claim.record(frames.kept(streaming.call))
        self._open = False
        await self._exchange.send({"type": "http.response.body", "body": last})

    async def _say(self, event: bytes) -> None:
        if event:
            self._spoke = self._loop.time()
            await self._exchange.send({"type": "http.response.body", "body": event, "more_body": True})

    async def _watch(self, work: "asyncio.Task[None]") -> None:
        gone = asyncio.ensure_future(self._hung_up())
        try:
            while True:
                silent_for_s = self._loop.time() - self._spoke if self._open else 0.0
                done, _ = await asyncio.wait({gone}, timeout=SILENCE_S - silent_for_s)
                if done:
                    self._gone = True
                    work.cancel()
                    return
                if self._open and self._loop.time() - self._spoke >= SILENCE_S:
                    await self._say(_KEEP_ALIVE)
        finally:
            gone.cancel()

    async def _hung_up(self) -> None:
        while (await self._exchange.receive())["type"] != "http.disconnect":
            pass
