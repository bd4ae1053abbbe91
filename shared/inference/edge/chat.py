"""POST /v1/chat/completions, whole and as a stream."""

from collections.abc import Mapping
from typing import Any

from shared.inference import chunking
from shared.inference.calls import Call
from shared.inference.edge import dry_runs, reading, streams
from shared.inference.edge.exchange import Exchange
from shared.inference.edge.once import Claim
from shared.inference.model import ChatRequest
from shared.inference.schemas import CreateChatCompletion
from shared.kernel.errors import RunyardError

_END = b"data: [DONE]\n\n"


class ChatFrames:
    """Chunks as they are, in server-sent events. A replayed stream is made of the whole answer that was kept."""

    def __init__(self, *, include_usage: bool) -> None:
        self._include_usage = include_usage

    def opening(self) -> bytes:
        return b""

    def chunk(self, chunk: bytes) -> bytes:
        return b"data: %b\n\n" % chunk

    def closing(self) -> bytes:
        return _END

    def failed(self, error: Mapping[str, Any]) -> bytes:
        return b"data: %b\n\n" % chunking.encode(error)

    def kept(self, call: Call, /) -> dict[str, Any]:
        return {**call.answer, "usage": {**(call.answer.get("usage") or {}), "cost_microusd": call.cost_microusd}}

    def replay(self, kept: Mapping[str, Any]) -> bytes:
        chunks = [*chunking.chunks_of(kept)]
        if self._include_usage:
            usage = kept.get("usage") or {}
            chunks.append(chunking.usage_chunk(kept, cost_microusd=usage.get("cost_microusd", 0)))
        return b"".join([*map(self.chunk, chunks), _END])


async def create(exchange: Exchange) -> None:
    """Answer with the model's completion."""
    raw = await reading.body(exchange.receive, exchange.headers)
    asked = reading.parse(CreateChatCompletion, raw)
    request = asked.request()
    if exchange.dry_run:
        await exchange.admit()
        await exchange.answer(await dry_runs.of_chat(exchange.caller, request))
        return
    claim = exchange.claim(raw)
    if asked.stream:
        include_usage = asked.stream_options is not None and asked.stream_options.include_usage
        ask = exchange.ask(request, claim, stream=True, include_usage=include_usage)
        await streams.answer(exchange, ask, claim, ChatFrames(include_usage=include_usage))
        return
    await claim.reserve()
    answer = await complete(exchange, request, claim)
    answer = {**answer, "object": "chat.completion"}
    await claim.record(answer)
    await exchange.answer(answer)


async def complete(exchange: Exchange, request: ChatRequest, claim: Claim) -> Mapping[str, Any]:
    """Return the gateway's answer; the claim is given back where there is none."""
    try:
        reply = await exchange.gateway.complete(exchange.ask(request, claim), exchange.trace)
    except RunyardError:
        await claim.release()
        raise
    return reply.answer
