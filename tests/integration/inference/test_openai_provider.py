"""A provider that speaks OpenAI's protocol, over real HTTP: answers, streams, faults, limits, and what is secret."""

import asyncio
import gzip
import json
import logging
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import aclosing
from typing import Any

import pytest
import uvloop

from shared.billing.service import TokenPrice
from shared.inference.answers import Chunk
from shared.inference.calls import Tokens
from shared.inference.config import ProviderAccount, ProviderKind, Target
from shared.inference.errors import (
    ModelNotFound,
    ProviderAnsweredWrongly,
    ProviderMisconfigured,
    ProviderRateLimited,
    ProviderRefused,
    ProviderTimedOut,
    ProviderUnreachable,
    StreamBroken,
)
from shared.inference.providers import connections, of
from shared.inference.providers.keys import Key
from shared.kernel import settings
from shared.kernel.errors import ProviderFailed, RunyardError
from tests.scripted_provider import HANG, Scripted, all_there_is, answer, chunked, events, scripted_provider
from tests.waiting import takes_less_than

KEY = Key("sk-canary-5f0c2e9b7d")
BODY = {"model": "m", "messages": [{"role": "user", "content": "Wie geht's? ✓"}], "max_completion_tokens": 9}
USAGE = {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12}
CHAT = {
    "id": "chatcmpl-1",
    "created": 1,
    "model": "m",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "hello"}, "finish_reason": "stop"}],
    "usage": USAGE,
}
PROVIDER = of(ProviderKind.OPENAI)


def _event(delta: dict[str, Any], finish: str | None = None, **more: Any) -> dict[str, Any]:
    return {"id": "c", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}], **more}


ROLE, FIRST, SECOND = (
    _event({"role": "assistant", "content": ""}),
    _event({"content": "he"}),
    _event({"content": "llo"}),
)
END, COUNTED, DONE = _event({}, "stop"), {"id": "c", "choices": [], "usage": USAGE}, b"[DONE]"


@pytest.fixture
def scripted() -> Iterator[Scripted]:
    with scripted_provider() as told:
        yield told


def _target(url: str, **account: Any) -> Target:
    found = ProviderAccount(name="p", kind=ProviderKind.OPENAI, base_url=f"{url}/v1/", **account)
    return Target(account=found, model="m", shown_as="m", price=TokenPrice(1, 1, 1, source="test"))


def _run[T](work: Coroutine[Any, Any, T]) -> T:
    """Run as the gateway does, on a loop that ends with all that it opened."""
    return uvloop.run(work)


def _chat(scripted: Scripted, *, timeout_s: float = 5, key: str = KEY) -> Any:
    return _run(PROVIDER.chat(_target(scripted.url), key, BODY, timeout_s=timeout_s))


def _stream(
    scripted: Scripted, *, first_token_s: float = 5, timeout_s: float = 10
) -> tuple[list[Chunk], Exception | None]:
    async def read() -> tuple[list[Chunk], Exception | None]:
        found: list[Chunk] = []
        stream = PROVIDER.stream(_target(scripted.url), KEY, BODY, first_token_s=first_token_s, timeout_s=timeout_s)
        try:
            while True:
                found.append(await anext(stream))
        except StopAsyncIteration:
            return found, None
        except RunyardError as error:
            return found, error

    return _run(read())


def test_a_completion_comes_as_the_provider_gave_it(scripted: Scripted) -> None:
    scripted.will(answer(CHAT, kind="application/json; charset=utf-8"))
    found = _chat(scripted)
    assert (found.body, found.tokens) == (CHAT, Tokens(input=10, cached=0, output=2))
    [heard] = scripted.heard
    assert (heard.method, heard.path, heard.body) == ("POST", "/v1/chat/completions", BODY)
    assert heard.headers["authorization"] == f"Bearer {KEY}"
    assert heard.headers["content-type"] == "application/json"
    assert not [name for name in heard.headers if name.startswith(("x-stainless", "openai-", "cookie"))]


def test_a_server_without_keys_is_asked_without_one(scripted: Scripted) -> None:
    scripted.will(answer(CHAT))
    _chat(scripted, key="")
    assert "authorization" not in scripted.heard[0].headers


def test_nothing_is_taken_from_the_environment(scripted: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_ADMIN_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID", "OPENAI_CUSTOM_HEADERS"):
        monkeypatch.setenv(name, "x-other: sk-other")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    scripted.will(answer(CHAT), answer(CHAT))
    _chat(scripted, key="")
    _chat(scripted)
    assert "sk-other" not in str(scripted.heard)


def test_connections_are_kept_and_end_with_their_loop(scripted: Scripted) -> None:
    scripted.will(*[answer(CHAT)] * 6, chunked(*events(ROLE, FIRST, END, DONE)), answer(CHAT))

    loops: list[asyncio.AbstractEventLoop] = []

    async def many() -> None:
        loops.append(asyncio.get_running_loop())
        for _ in range(6):
            await PROVIDER.chat(_target(scripted.url), KEY, BODY, timeout_s=5)
        # A stream that was read to its end gives its connection back too.
        async for _ in PROVIDER.stream(_target(scripted.url), KEY, BODY, first_token_s=5, timeout_s=5):
            pass
        await PROVIDER.chat(_target(scripted.url), KEY, BODY, timeout_s=5)

    _run(many())
    assert scripted.connections == 1
    assert loops[0] not in connections.client(guarded=False)._open


def test_embeddings_and_models_are_asked_for(scripted: Scripted) -> None:
    data = [{"index": 1, "embedding": [2.0]}, {"index": 0, "embedding": [1.0]}]
    scripted.will(answer({"data": data, "usage": USAGE}), answer({"data": [{"id": "m"}]}))

    async def both() -> None:
        found = await PROVIDER.embed(_target(scripted.url), KEY, ["a", "b"], dimensions=1, timeout_s=5)
        assert found == (((1.0,), (2.0,)), Tokens(input=10, cached=0, output=2))
        assert await PROVIDER.models(_target(scripted.url), KEY, timeout_s=5) == [{"id": "m"}]

    _run(both())
    asked, listed = scripted.heard
    assert asked.body == {"model": "m", "input": ["a", "b"], "encoding_format": "base64", "dimensions": 1}
    assert (listed.method, listed.path) == ("GET", "/v1/models")


FAULTS: dict[str, tuple[list[Any], type[RunyardError]]] = {
    "400": (answer({"error": {"message": "No."}}, status=400), ProviderRefused),
    "401": (answer({"error": {"message": str(KEY)}}, status=401), ProviderMisconfigured),
    "404": (answer(b"not here", status=404, kind="text/plain"), ModelNotFound),
    "429": (answer({"error": {}}, status=429, headers={"retry-after": "7"}), ProviderRateLimited),
    "500": (answer(b"", status=500), ProviderFailed),
    "redirect": (answer(b"", status=307, headers={"location": "/v1/elsewhere"}), ProviderMisconfigured),
    "html": (answer(b"<html>", kind="text/html"), ProviderAnsweredWrongly),
    "json of no type": (answer(CHAT, kind="text/plain"), ProviderAnsweredWrongly),
    "cut json": (answer(b'{"id": '), ProviderAnsweredWrongly),
    "no usage": (answer({**CHAT, "usage": None}), ProviderAnsweredWrongly),
    "no http": ([b"hello\r\n\r\n", None], ProviderAnsweredWrongly),
    "hung up": ([None], ProviderUnreachable),
    "hung up within": ([answer(CHAT)[0][:-5], None], ProviderUnreachable),
    "hang": ([HANG], ProviderTimedOut),
    "hang within": ([answer(CHAT)[0][:-5], HANG], ProviderTimedOut),
    "compressed": (answer(gzip.compress(b"{}"), headers={"content-encoding": "gzip"}), ProviderAnsweredWrongly),
    "announced too large": (
        [b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 99999999999\r\n\r\n", HANG],
        ProviderAnsweredWrongly,
    ),
    "too large": (chunked(*[b"x" * 2**20] * 40, kind="application/json"), ProviderAnsweredWrongly),
}


@pytest.mark.parametrize(("said", "error"), FAULTS.values(), ids=FAULTS.keys())
def test_a_fault_is_told_by_its_kind(scripted: Scripted, said: list[Any], error: type[RunyardError]) -> None:
    scripted.will(said)
    with pytest.raises(RunyardError) as raised:
        _chat(scripted, timeout_s=0.5 if HANG in said else 5)
    assert type(raised.value) is error
    assert len(scripted.heard) == 1


@pytest.mark.parametrize("name", ["announced too large", "too large"])
def test_an_answer_that_is_too_large_is_not_read(scripted: Scripted, name: str) -> None:
    scripted.will(FAULTS[name][0])
    with pytest.raises(ProviderAnsweredWrongly, match="larger than"):
        _chat(scripted)


@pytest.mark.parametrize(("said", "error"), FAULTS.values(), ids=FAULTS.keys())
def test_before_a_stream_has_begun_its_faults_are_the_same(
    scripted: Scripted, said: list[Any], error: type[RunyardError]
) -> None:
    scripted.will(said)
    chunks, found = _stream(scripted, first_token_s=0.5 if HANG in said else 5)
    # What isn't a stream is wrong already, before anything else of it is looked at.
    wrong = isinstance(said[0], bytes) and b"200 Said" in said[0]
    assert chunks == []
    assert type(found) is (ProviderAnsweredWrongly if wrong else error)


def test_nobody_there_is_told(scripted: Scripted) -> None:
    with pytest.raises(ProviderUnreachable) as raised:
        _run(PROVIDER.chat(_target("http://127.0.0.1:1"), KEY, BODY, timeout_s=5))
    assert raised.value.retry_after_s == 1
    with pytest.raises(ProviderMisconfigured):
        _run(PROVIDER.chat(_target("ftp://127.0.0.1"), KEY, BODY, timeout_s=5))


def test_a_stream_comes_chunk_by_chunk(scripted: Scripted) -> None:
    first, *rest = events(ROLE, FIRST, SECOND, END, COUNTED, DONE)
    scripted.will(chunked(first[:9], first[9:] + rest[0], *rest[1:]))
    chunks, error = _stream(scripted)
    assert error is None
    assert [chunk.body for chunk in chunks] == [ROLE, FIRST, SECOND, END, COUNTED]
    assert "".join(chunk.text for chunk in chunks) == "hello"
    assert [chunk.tokens for chunk in chunks][-1] == Tokens(input=10, cached=0, output=2)
    assert scripted.heard[0].body == {**BODY, "stream": True, "stream_options": {"include_usage": True}}


def test_a_chunk_is_there_before_the_next_was_sent(scripted: Scripted) -> None:
    scripted.will(chunked(*events(ROLE, FIRST), HANG))

    async def first() -> str:
        async with aclosing(PROVIDER.stream(_target(scripted.url), KEY, BODY, first_token_s=5, timeout_s=5)) as chunks:
            async for chunk in chunks:
                if chunk.text:
                    return chunk.text
        raise AssertionError

    assert _run(first()) == "he"
    assert scripted.left.wait(30), "the provider was not told that nobody listens any more"


STREAMS: dict[str, tuple[list[Any], int, type[RunyardError] | None]] = {
    "no done but a reason": (chunked(*events(ROLE, FIRST, END)), 3, None),
    "no end of its last event": (chunked(*events(ROLE, FIRST, END), b"data: [DONE]\n"), 3, None),
    "more after done": (chunked(*events(ROLE, END, DONE, FIRST, b"nonsense")), 2, None),
    "open after done": (chunked(*events(ROLE, END, DONE), HANG), 2, None),
    "ended early": (chunked(*events(ROLE, FIRST)), 2, StreamBroken),
    "hung up": (chunked(*events(ROLE, FIRST), None), 2, StreamBroken),
    "cut event": ([*chunked(*events(ROLE, FIRST), b'data: {"id": ', end=False), None], 2, StreamBroken),
    "nonsense": (chunked(*events(ROLE, FIRST, b"nonsense")), 2, StreamBroken),
    "an error": (chunked(*events(ROLE, FIRST, {"error": {"message": "no"}})), 2, StreamBroken),
    "silence": (chunked(*events(ROLE, FIRST), HANG), 2, StreamBroken),
    "nothing": (chunked(), 0, StreamBroken),
    "the role alone": (chunked(*events(ROLE)), 1, StreamBroken),
    "the role and silence": (chunked(*events(ROLE), HANG), 1, ProviderTimedOut),
    "an error at first": (chunked(*events({"error": {"code": "rate_limit_exceeded"}})), 0, ProviderRateLimited),
    "a long event": (chunked(b"data: " + b"x" * 2**21), 0, ProviderAnsweredWrongly),
    "too much": (
        chunked(*events(ROLE, *[_event({"content": "x" * 2**19})] * 70, END, COUNTED, DONE)),
        -1,
        StreamBroken,
    ),
}


@pytest.mark.parametrize(("said", "count", "error"), STREAMS.values(), ids=STREAMS.keys())
def test_a_stream_ends_whole_or_is_told_to_be_broken(
    scripted: Scripted, said: list[Any], count: int, error: type[RunyardError] | None
) -> None:
    scripted.will(said)
    quick = HANG in said and error is not None
    chunks, found = _stream(scripted, first_token_s=0.4 if quick else 5, timeout_s=0.8 if quick else 10)
    assert (type(found) if found else None) is error
    assert count in (len(chunks), -1)


def test_a_slow_stream_has_all_its_time_once_it_has_begun(scripted: Scripted) -> None:
    scripted.will(chunked(*events(ROLE, FIRST), 0.7, *events(SECOND, END, DONE)))
    chunks, error = _stream(scripted, first_token_s=0.4, timeout_s=5)
    assert (len(chunks), error) == (4, None)


def test_a_call_that_is_given_up_ends_its_connection(scripted: Scripted) -> None:
    async def give_up() -> float:
        scripted.will([HANG])
        scripted.asked.clear()
        scripted.left.clear()
        task = asyncio.create_task(PROVIDER.chat(_target(scripted.url), KEY, BODY, timeout_s=30))
        assert await asyncio.to_thread(scripted.asked.wait, 5)
        task.cancel()
        began = time.monotonic()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await asyncio.to_thread(scripted.left.wait, 5)
        return time.monotonic() - began

    assert takes_less_than(0.1, lambda: _run(give_up()))


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "169.254.169.254", "10.0.0.1"])
@pytest.mark.parametrize("private", ["", "1"], ids=["cloud", "home"])
def test_a_tenants_provider_is_connected_to_at_public_addresses_alone(
    scripted: Scripted, host: str, private: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUNYARD_PRIVATE_PROVIDERS", private)
    settings.forget()
    scripted.will(answer(CHAT))
    target = _target(scripted.url.replace("127.0.0.1", host), own=True)
    home = private and host in ("127.0.0.1", "localhost")
    try:
        if home:
            assert _run(PROVIDER.chat(target, KEY, BODY, timeout_s=5)).body == CHAT
        elif private and host in ("[::1]", "10.0.0.1"):
            with pytest.raises((ProviderUnreachable, ProviderTimedOut)):
                _run(PROVIDER.chat(target, KEY, BODY, timeout_s=0.3))
        else:
            with pytest.raises(ProviderMisconfigured, match="public address"):
                _run(PROVIDER.chat(target, KEY, BODY, timeout_s=5))
            assert scripted.connections == 0
    finally:
        settings.forget()


@pytest.mark.parametrize(("said", "error"), FAULTS.values(), ids=FAULTS.keys())
@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "stream"])
def test_the_key_is_nowhere_to_be_seen(
    scripted: Scripted, said: list[Any], error: type[RunyardError], streamed: bool, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("", "openai", "httpx", "httpx2", "aiohttp", "aiohttp.client", "asyncio"):
        caplog.set_level(logging.DEBUG, name)
    # A provider that repeats the key wherever it can.
    echo = {"error": {"message": f"key {KEY}", "code": KEY, "param": KEY, "type": KEY}}
    scripted.will(said, answer(echo, status=400, headers={"x-request-id": str(KEY)}))
    timeout_s = 0.3 if HANG in said else 5

    async def ask() -> Any:
        return await PROVIDER.chat(_target(scripted.url), KEY, BODY, timeout_s=timeout_s)

    async def read() -> None:
        async for _ in PROVIDER.stream(_target(scripted.url), KEY, BODY, first_token_s=timeout_s, timeout_s=5):
            pass

    work: Callable[[], Coroutine[Any, Any, Any]] = read if streamed else ask
    for _ in range(2):
        with pytest.raises(RunyardError) as raised:
            _run(work())
        assert KEY not in all_there_is(raised.value)
    written = "".join(f"{record.getMessage()}{record.__dict__}{record.exc_text or ''}" for record in caplog.records)
    assert KEY not in written
    assert KEY not in caplog.text
    assert KEY not in repr(KEY)
    assert json.loads(json.dumps(KEY)) == str(KEY)
