"""Anthropic's Messages API over real HTTP, as its documentation describes it."""

import asyncio
import logging
from collections.abc import Coroutine, Iterator
from contextlib import aclosing
from typing import Any

import pytest
import uvloop

from shared.billing.service import TokenPrice
from shared.inference.answers import Chunk
from shared.inference.calls import Tokens
from shared.inference.config import ProviderAccount, ProviderKind, Target
from shared.inference.errors import (
    ContextTooLong,
    ModelNotFound,
    NotServed,
    ProviderAnsweredWrongly,
    ProviderMisconfigured,
    ProviderRateLimited,
    ProviderRefused,
    ProviderTimedOut,
    ProviderUnreachable,
    StreamBroken,
)
from shared.inference.providers import of
from shared.inference.providers.keys import Key
from shared.kernel.errors import ProviderFailed, RunyardError
from tests.scripted_provider import HANG, Scripted, all_there_is, answer, chunked, events, scripted_provider

KEY = Key("sk-ant-canary-5f0c2e9b7d")
BODY = {"model": "claude", "messages": [{"role": "user", "content": "Hello ✓"}], "max_completion_tokens": 9}
USAGE = {"input_tokens": 10, "output_tokens": 2, "cache_read_input_tokens": 5, "cache_creation_input_tokens": 1}
MESSAGE: dict[str, Any] = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude-sonnet-4-6",
    "content": [{"type": "text", "text": "Hi"}],
    "stop_reason": "end_turn",
    "usage": USAGE,
}
TOKENS = Tokens(input=16, cached=5, output=2, written=1)
PROVIDER = of(ProviderKind.ANTHROPIC)


def _event(kind: str, **more: Any) -> bytes:
    [found] = events({"type": kind, **more})
    return f"event: {kind}\n".encode() + found


START = _event("message_start", message={**MESSAGE, "content": []})
BLOCK = _event("content_block_start", index=0, content_block={"type": "text", "text": ""})
PING = _event("ping")
TEXT = _event("content_block_delta", index=0, delta={"type": "text_delta", "text": "Hi"})
CLOSED = _event("content_block_stop", index=0)
REASON = _event("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 2})
STOP = _event("message_stop")
BEGUN = [START, BLOCK, PING, TEXT]
WHOLE = [*BEGUN, CLOSED, REASON, STOP]


@pytest.fixture
def scripted() -> Iterator[Scripted]:
    with scripted_provider() as told:
        yield told


def _target(url: str) -> Target:
    account = ProviderAccount(name="p", kind=ProviderKind.ANTHROPIC, base_url=url)
    return Target(account=account, model="claude-sonnet-4-6", shown_as="m", price=TokenPrice(1, 1, 1, source="test"))


def _run[T](work: Coroutine[Any, Any, T]) -> T:
    return uvloop.run(work)


def _chat(scripted: Scripted, *, timeout_s: float = 5) -> Any:
    return _run(PROVIDER.chat(_target(scripted.url), KEY, BODY, timeout_s=timeout_s))


def _stream(scripted: Scripted, *, first_token_s: float = 5) -> tuple[list[Chunk], Exception | None]:
    async def read() -> tuple[list[Chunk], Exception | None]:
        found: list[Chunk] = []
        stream = PROVIDER.stream(_target(scripted.url), KEY, BODY, first_token_s=first_token_s, timeout_s=5)
        try:
            while True:
                found.append(await anext(stream))
        except StopAsyncIteration:
            return found, None
        except RunyardError as error:
            return found, error

    return _run(read())


@pytest.mark.parametrize("base", ["", "/", "/v1", "/v1/"], ids=["host", "slash", "version", "both"])
def test_a_message_is_asked_for(scripted: Scripted, base: str) -> None:
    scripted.will(answer(MESSAGE))
    found = _run(PROVIDER.chat(_target(scripted.url + base), KEY, BODY, timeout_s=5))
    assert found.tokens == TOKENS
    assert found.body["choices"][0]["message"]["content"] == "Hi"
    [heard] = scripted.heard
    assert (heard.method, heard.path) == ("POST", "/v1/messages")
    assert heard.headers["authorization"] == f"Bearer {KEY}"
    assert heard.headers["anthropic-version"] == "2026-10-21"
    assert heard.headers["content-type"] == "application/json"
    assert not [name for name in heard.headers if name.startswith(("x-stainless", "x-api-key", "cookie"))]
    assert heard.body == {
        "model": "claude-sonnet-4-6",
        "max_tokens": 9,
        "messages": [{"role": "user", "content": [{"type": "text", "text": "Hello ✓"}]}],
    }


@pytest.mark.parametrize(
    ("options", "version"),
    [
        ({"temperature": 0.2}, "2023-06-01"),
        ({"top_p": 0.9}, "2023-06-01"),
        ({"top_k": 5}, "2023-06-01"),
        ({"temperature": 1, "top_p": 1.0}, "2026-10-21"),
        ({"temperature": 0.2, "reasoning_effort": "low"}, "2026-10-21"),
    ],
    ids=str,
)
def test_who_asks_how_to_sample_is_served_by_the_version_that_does(
    scripted: Scripted, options: dict[str, Any], version: str
) -> None:
    scripted.will(answer(MESSAGE), chunked(*WHOLE))

    async def both() -> None:
        target = _target(scripted.url)
        await PROVIDER.chat(target, KEY, {**BODY, **options}, timeout_s=5)
        async for _ in PROVIDER.stream(target, KEY, {**BODY, **options}, first_token_s=5, timeout_s=5):
            pass

    _run(both())
    assert [heard.headers["anthropic-version"] for heard in scripted.heard] == [version] * 2


def test_nothing_is_taken_from_the_environment(scripted: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_CUSTOM_HEADERS"):
        monkeypatch.setenv(name, "x-other: sk-other")
    scripted.will(answer(MESSAGE))
    _chat(scripted)
    assert "sk-other" not in str(scripted.heard)


def test_models_are_listed_and_embeddings_are_not_served(scripted: Scripted) -> None:
    scripted.will(answer({"data": [{"type": "model", "id": "claude-x", "display_name": "X"}], "has_more": False}))
    found = _run(PROVIDER.models(_target(scripted.url), KEY, timeout_s=5))
    assert found == [{"id": "claude-x", "object": "model", "created": 0, "owned_by": "anthropic"}]
    assert (scripted.heard[0].method, scripted.heard[0].path) == ("GET", "/v1/models?limit=1000")
    with pytest.raises(NotServed):
        _run(PROVIDER.embed(_target(scripted.url), KEY, ["a"], dimensions=None, timeout_s=5))


def test_a_stream_comes_chunk_by_chunk_and_its_connection_is_kept(scripted: Scripted) -> None:
    scripted.will(chunked(*WHOLE), chunked(*WHOLE))

    async def twice() -> list[Chunk]:
        for _ in range(2):
            stream = PROVIDER.stream(_target(scripted.url), KEY, BODY, first_token_s=5, timeout_s=5)
            chunks = [chunk async for chunk in stream]
        return chunks

    chunks = _run(twice())
    assert "".join(chunk.text for chunk in chunks) == "Hi"
    assert chunks[-1].tokens == TOKENS
    assert scripted.heard[0].body["stream"] is True
    assert scripted.connections == 1


def _error(kind: str, message: str = "No.") -> dict[str, Any]:
    return {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_1"}


TOO_LONG = _error("invalid_request_error", "prompt is too long: 208310 tokens > 200000 maximum")
FAULTS: dict[str, tuple[list[Any], type[RunyardError]]] = {
    "400": (answer(_error("invalid_request_error"), status=400), ProviderRefused),
    "too long": (answer(TOO_LONG, status=400), ContextTooLong),
    "401": (answer(_error("authentication_error", f"invalid x-api-key {KEY}"), status=401), ProviderMisconfigured),
    "402": (answer(_error("billing_error"), status=402), ProviderMisconfigured),
    "404": (answer(_error("not_found_error"), status=404), ModelNotFound),
    "429": (answer(_error("rate_limit_error"), status=429, headers={"retry-after": "7"}), ProviderRateLimited),
    "529": (answer(_error("overloaded_error"), status=529), ProviderFailed),
    "html": (answer(b"<html>", kind="text/html"), ProviderAnsweredWrongly),
    "no usage": (answer({**MESSAGE, "usage": None}), ProviderAnsweredWrongly),
    "hung up": ([None], ProviderUnreachable),
    "hang": ([HANG], ProviderTimedOut),
    "too large": (chunked(*[b"x" * 2**20] * 40, kind="application/json"), ProviderAnsweredWrongly),
}


@pytest.mark.parametrize(("said", "error"), FAULTS.values(), ids=FAULTS.keys())
def test_a_fault_is_told_by_its_kind_and_without_the_key(
    scripted: Scripted, said: list[Any], error: type[RunyardError], caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("", "anthropic", "httpx", "httpx2", "aiohttp", "aiohttp.client", "asyncio"):
        caplog.set_level(logging.DEBUG, name)
    # A provider that repeats the key in its headers.
    said = (
        [said[0].replace(b"\r\n", f"\r\nx-echo: {KEY}\r\nrequest-id: {KEY}\r\n".encode(), 1), *said[1:]]
        if isinstance(said[0], bytes)
        else said
    )
    scripted.will(said)
    with pytest.raises(RunyardError) as raised:
        _chat(scripted, timeout_s=0.5 if HANG in said else 5)
    assert type(raised.value) is error
    assert len(scripted.heard) == 1
    assert KEY not in all_there_is(raised.value)
    assert KEY not in caplog.text
    assert KEY not in "".join(f"{record.__dict__}" for record in caplog.records)
    if error is ProviderRateLimited:
        assert raised.value.retry_after_s == 7


STREAMS: dict[str, tuple[list[Any], type[RunyardError] | None]] = {
    "whole": (chunked(*WHOLE), None),
    "no end": (chunked(*BEGUN, CLOSED, REASON), StreamBroken),
    "hung up": (chunked(*BEGUN, None), StreamBroken),
    "an error": (chunked(*BEGUN, *events(_error("overloaded_error"))), StreamBroken),
    "an error at first": (chunked(START, *events(_error("overloaded_error"))), ProviderFailed),
    "nonsense": (chunked(*BEGUN, *events(b"nonsense")), StreamBroken),
    "silence at first": (chunked(START, PING, HANG), ProviderTimedOut),
    "no stream": (answer(MESSAGE), ProviderAnsweredWrongly),
    "429": (answer(_error("rate_limit_error"), status=429), ProviderRateLimited),
}


@pytest.mark.parametrize(("said", "error"), STREAMS.values(), ids=STREAMS.keys())
def test_a_stream_ends_whole_or_is_told_to_be_broken(
    scripted: Scripted, said: list[Any], error: type[RunyardError] | None
) -> None:
    scripted.will(said)
    chunks, found = _stream(scripted, first_token_s=0.5 if HANG in said else 5)
    assert (type(found) if found else None) is error
    assert found is None or KEY not in all_there_is(found)
    assert bool([chunk for chunk in chunks if chunk.text]) is (error in (None, StreamBroken))


def test_a_stream_that_is_left_ends_its_connection(scripted: Scripted) -> None:
    scripted.will(chunked(*BEGUN, HANG))

    async def leave() -> None:
        async with aclosing(PROVIDER.stream(_target(scripted.url), KEY, BODY, first_token_s=5, timeout_s=5)) as chunks:
            async for chunk in chunks:
                if chunk.text:
                    break
        assert await asyncio.to_thread(scripted.left.wait, 0.1)

    _run(leave())
