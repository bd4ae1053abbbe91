"""Streams: each chunk passes on as it comes, and what was produced is paid, however the stream ends."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import StreamingResponse

from shared.billing import service as billing
from shared.inference import gateway, passage, store
from shared.inference.asking import Ask, CacheControl, Streaming
from shared.inference.calls import CacheStatus, Call, Outcome
from shared.inference.errors import StreamBroken
from shared.inference.model import ChatRequest
from shared.inference.trace import Trace
from shared.kernel import clock, db, ids
from shared.kernel.caller import Caller
from shared.kernel.errors import Unavailable
from shared.kernel.pagination import Slice
from shared.usage import service as usage
from tests.model_provider import Provider
from tests.services import Services
from tests.waiting import until

HELLO = ChatRequest(messages=[{"role": "user", "content": "Tell me a story."}])
HEAD = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1_700_000_000, "model": "runyard-offline"}
WORDS = ["Once", " upon", " a", " time"]


@pytest.fixture
def funded(org: Caller, operator: Caller, provider: Provider) -> Caller:
    with db.tenant(org) as tx:
        billing.grant(tx, org, amount_microusd=1_000_000, source_id=str(ids.new()), reason="test")
    return org


def ask(caller: Caller, **changes: Any) -> Ask:
    known = Ask(caller=caller, request=HELLO, source_id=f"api:{ids.new()}", timeout_s=10, include_usage=True)
    return replace(known, **changes)


def event(body: Any) -> bytes:
    return b"data: " + json.dumps(body).encode() + b"\n\n"


def word(text: str) -> bytes:
    return event({**HEAD, "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}]})


END = event({**HEAD, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
USAGE = event(
    {**HEAD, "choices": [], "usage": {"prompt_tokens": 1_000, "completion_tokens": 500, "total_tokens": 1_500}}
)
DONE = b"data: [DONE]\n\n"


def streams(body: Callable[[], AsyncIterator[bytes]]) -> Callable[[Request], StreamingResponse]:
    return lambda _: StreamingResponse(body(), media_type="text/event-stream")


def run[T](work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(work)


async def drained(streaming: Streaming) -> list[dict[str, Any]]:
    return [json.loads(chunk) async for chunk in streaming.chunks]


def text_of(chunks: list[dict[str, Any]]) -> str:
    return "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks if chunk["choices"])


def recorded(caller: Caller, source_id: str) -> Call:
    with db.tenant(caller) as tx:
        [call] = store.list_calls(tx, Slice(limit=5), store.Filter())
    # One that didn't end well leaves its source id free to be tried again.
    assert call.source_id.startswith(source_id)
    assert (call.source_id == source_id) == (call.outcome is Outcome.OK)
    return call


def books(caller: Caller) -> tuple[int, int, int]:
    """Return what is held, what was settled, and what the usage ledger says was spent."""
    with db.tenant(caller) as tx:
        balance = billing.balance(tx)
        spent = usage.summary(tx, since=clock.now() - timedelta(hours=1), until=clock.now() + timedelta(hours=1))
        assert list(billing.check(tx)) == []
        return balance.held_microusd, balance.settled_microusd, sum(line.cost_microusd for line in spent)


def test_the_first_token_is_there_before_the_last_has_left_the_provider(funded: Caller, provider: Provider) -> None:
    go = threading.Event()

    async def story() -> AsyncIterator[bytes]:
        yield word(WORDS[0])
        await asyncio.to_thread(go.wait, 10)
        for text in WORDS[1:]:
            yield word(text)
        yield END
        yield USAGE
        yield DONE

    provider.replies(streams(story))

    async def read() -> tuple[str, list[dict[str, Any]]]:
        streaming = await gateway.stream(ask(funded), Trace())
        first = json.loads(await anext(streaming.chunks))
        seen_before = not go.is_set()
        go.set()
        assert seen_before
        return first["choices"][0]["delta"]["content"], await drained(streaming)

    first, rest = run(read())

    assert first + text_of(rest) == "Once upon a time"
    assert rest[-1]["usage"]["total_tokens"] == 1_500


def test_the_cost_is_that_of_the_providers_own_count(funded: Caller, provider: Provider) -> None:
    async def story() -> AsyncIterator[bytes]:
        for piece in (*map(word, WORDS), END, USAGE, DONE):
            yield piece

    provider.replies(streams(story))
    asked, trace = ask(funded), Trace()

    async def read() -> list[dict[str, Any]]:
        return await drained(await gateway.stream(asked, trace))

    chunks = run(read())

    # 1,000 tokens at 100,000 and 500 at 400,000 micro-dollars a million.
    assert trace.cost_microusd == 100 + 200
    assert chunks[-1]["usage"]["cost_microusd"] == 300
    call = recorded(funded, asked.source_id)
    assert (call.outcome, call.estimated, call.streamed, call.finish_reason) == (Outcome.OK, False, True, "stop")
    assert call.first_token_ms is not None
    assert books(funded) == (0, 300, 300)


def test_usage_is_told_only_to_those_who_asked_for_it(funded: Caller, provider: Provider) -> None:
    async def read() -> list[dict[str, Any]]:
        return await drained(await gateway.stream(ask(funded, include_usage=False), Trace()))

    chunks = run(read())

    assert all(chunk["choices"] and "usage" not in chunk for chunk in chunks)
    assert provider.asked[0].body["stream_options"] == {"include_usage": True}


def test_a_reader_who_goes_away_stops_the_provider_and_pays_what_was_produced(
    funded: Caller, provider: Provider
) -> None:
    sent, stopped = [0], threading.Event()

    async def endless() -> AsyncIterator[bytes]:
        try:
            while True:
                yield word("word ")
                sent[0] += 1
                await asyncio.sleep(0.02)
        finally:
            stopped.set()

    provider.replies(streams(endless))
    asked = ask(funded)

    async def read() -> None:
        streaming = await gateway.stream(asked, Trace())
        for _ in range(5):
            await anext(streaming.chunks)
        await streaming.chunks.aclose()
        assert await asyncio.to_thread(stopped.wait, 30)

    run(read())

    call = recorded(funded, asked.source_id)
    assert (call.outcome, call.estimated) == (Outcome.CANCELLED, True)
    # At least the 25 bytes that were read, a token for every four; no more than was ever sent.
    assert 7 <= call.tokens.output <= (sent[0] + 2) * 5 // 4 + 1
    assert books(funded) == (0, call.cost_microusd, call.cost_microusd)
    assert call.cost_microusd > 0


def test_a_reader_who_is_cancelled_in_mid_read_pays_the_same(funded: Caller, provider: Provider) -> None:
    stopped = threading.Event()

    async def stuck() -> AsyncIterator[bytes]:
        try:
            yield word("Once")
            await asyncio.sleep(30)
        finally:
            stopped.set()

    provider.replies(streams(stuck))
    asked = ask(funded)

    async def read() -> None:
        streaming = await gateway.stream(asked, Trace())
        reading = asyncio.ensure_future(drained(streaming))
        await asyncio.sleep(0.3)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        await streaming.chunks.aclose()
        assert await asyncio.to_thread(stopped.wait, 30)

    run(read())

    call = recorded(funded, asked.source_id)
    assert (call.outcome, call.tokens.output) == (Outcome.CANCELLED, 1)
    assert books(funded)[0] == 0


def test_a_broken_stream_is_paid_by_our_own_count(funded: Caller, provider: Provider) -> None:
    async def cut() -> AsyncIterator[bytes]:
        for text in WORDS:
            yield word(text)

    provider.replies(streams(cut))
    asked = ask(funded)
    seen: list[dict[str, Any]] = []

    async def read() -> None:
        streaming = await gateway.stream(asked, Trace())
        async for chunk in streaming.chunks:
            seen.append(json.loads(chunk))  # noqa: PERF401 - what came before the error counts

    with pytest.raises(StreamBroken):
        run(read())

    assert text_of(seen) == "Once upon a time"
    call = recorded(funded, asked.source_id)
    assert (call.outcome, call.estimated, call.error_code) == (Outcome.BROKEN, True, "stream_broken")
    # "Once upon a time" has 16 bytes.
    assert call.tokens.output == 4
    assert books(funded) == (0, call.cost_microusd, call.cost_microusd)


def test_a_stream_that_tells_no_usage_is_counted_by_us(funded: Caller, provider: Provider) -> None:
    async def untold() -> AsyncIterator[bytes]:
        for piece in (*map(word, WORDS), END, DONE):
            yield piece

    provider.replies(streams(untold))
    asked = ask(funded)

    async def read() -> list[dict[str, Any]]:
        return await drained(await gateway.stream(asked, Trace()))

    run(read())

    call = recorded(funded, asked.source_id)
    assert (call.outcome, call.estimated, call.tokens.output) == (Outcome.OK, True, 4)


def test_a_stream_fills_the_cache_and_is_served_from_it(funded: Caller, provider: Provider) -> None:
    async def read() -> tuple[list[dict[str, Any]], CacheStatus, int]:
        trace = Trace()
        streaming = await gateway.stream(ask(funded, cache=CacheControl()), trace)
        return await drained(streaming), streaming.cache, trace.cost_microusd

    async def both() -> tuple[Any, Any]:
        return await read(), await read()

    (first, missed, cost), (again, hit, nothing) = run(both())

    assert (missed, hit) == (CacheStatus.MISS, CacheStatus.HIT)
    assert text_of(first) == text_of(again) != ""
    assert cost > 0
    assert nothing == 0
    assert again[-1]["usage"] == first[-1]["usage"] | {"cost_microusd": 0}
    assert len(provider.asked) == 1


def test_a_stream_sent_again_is_given_again(funded: Caller, provider: Provider) -> None:
    asked = ask(funded, source_id="once", repeatable=True)

    async def read() -> str:
        return text_of(await drained(await gateway.stream(asked, Trace())))

    async def both() -> tuple[str, str]:
        return await read(), await read()

    first, again = run(both())

    assert first == again != ""
    assert len(provider.asked) == 1
    assert books(funded)[1] == recorded(funded, "once").cost_microusd


def test_a_reader_who_never_read_leaves_nothing_held_and_nobody_speaking(funded: Caller, provider: Provider) -> None:
    stopped = threading.Event()

    async def stuck() -> AsyncIterator[bytes]:
        try:
            yield word("Once")
            await asyncio.sleep(30)
        finally:
            stopped.set()

    provider.replies(streams(stuck))
    asked = ask(funded)

    async def read() -> None:
        streaming = await gateway.stream(asked, Trace())
        await streaming.chunks.aclose()
        assert await asyncio.to_thread(stopped.wait, 30)

    run(read())

    assert recorded(funded, asked.source_id).outcome is Outcome.CANCELLED
    assert books(funded)[0] == 0


def test_what_was_read_while_postgres_was_gone_is_paid_once_it_is_back(
    funded: Caller, provider: Provider, services: Services
) -> None:
    async def story() -> AsyncIterator[bytes]:
        for piece in (*map(word, WORDS), END, USAGE, DONE):
            yield piece

    provider.replies(streams(story))
    asked = ask(funded)

    async def read() -> None:
        streaming = await gateway.stream(asked, Trace())
        await anext(streaming.chunks)
        await asyncio.to_thread(services.postgres.kill)
        with pytest.raises(Unavailable):
            await drained(streaming)
        await asyncio.to_thread(services.postgres.start)
        await asyncio.to_thread(until, lambda: not passage._closings, "the last closing")

    run(read())

    assert recorded(funded, asked.source_id).cost_microusd == 300
    assert books(funded) == (0, 300, 300)
