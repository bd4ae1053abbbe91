"""Bedrock's Converse API over real HTTP: signed requests, framed events, and threads that are not left behind."""

import asyncio
import json
import logging
import struct
import time
import zlib
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
from shared.inference.providers import bedrock_provider, of
from shared.kernel.errors import ProviderFailed, RunyardError
from tests.scripted_provider import HANG, Scripted, all_there_is, answer, chunked, scripted_provider
from tests.waiting import takes_less_than, until

SECRET, TOKEN = "canary-secret-5f0c2e9b7d", "canary-token-5f0c2e9b7d"
BODY = {"model": "m", "messages": [{"role": "user", "content": "Hello ✓"}], "max_completion_tokens": 9}
USAGE = {"inputTokens": 10, "outputTokens": 2, "totalTokens": 18, "cacheReadInputTokens": 5, "cacheWriteInputTokens": 1}
TOKENS = Tokens(input=16, cached=5, output=2, written=1)
MODEL = "anthropic.claude-sonnet-4-5-20250929-v1:0"
MESSAGE: dict[str, Any] = {
    "output": {"message": {"role": "assistant", "content": [{"text": "Hi"}]}},
    "stopReason": "end_turn",
    "usage": USAGE,
    "metrics": {"latencyMs": 5},
}
PROVIDER = of(ProviderKind.BEDROCK)
REQUEST_ID = {"x-amzn-requestid": "6f1c1c5e"}


def _frame(payload: dict[str, Any], **headers: str) -> bytes:
    """Return one message. Source: https://docs.aws.amazon.com/transcribe/latest/dg/streaming-setting-up.html"""
    named = {f":{name.replace('_', '-')}": value.encode() for name, value in headers.items()}
    head = b"".join(
        bytes([len(name)]) + name.encode() + b"\x07" + struct.pack(">H", len(value)) + value
        for name, value in named.items()
    )
    body = json.dumps(payload).encode()
    prelude = struct.pack(">II", len(head) + len(body) + 16, len(head))
    message = prelude + struct.pack(">I", zlib.crc32(prelude)) + head + body
    return message + struct.pack(">I", zlib.crc32(message))


def _event(kind: str, **payload: Any) -> bytes:
    return _frame(payload, message_type="event", event_type=kind, content_type="application/json")


def _fault(kind: str, message: str = "No.") -> bytes:
    return _frame({"message": message}, message_type="exception", exception_type=kind, content_type="application/json")


START = _event("messageStart", role="assistant")
TEXT = _event("contentBlockDelta", delta={"text": "Hi"}, contentBlockIndex=0)
STOP = [_event("contentBlockStop", contentBlockIndex=0), _event("messageStop", stopReason="end_turn")]
COUNTED = _event("metadata", usage=USAGE, metrics={"latencyMs": 5})
WHOLE = [START, TEXT, *STOP, COUNTED]


def _says(*pieces: Any) -> list[Any]:
    return chunked(*pieces, kind="application/vnd.amazon.eventstream")


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> Iterator[Scripted]:
    for name in ("AWS_PROFILE", "AWS_BEARER_TOKEN_BEDROCK", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIATEST")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_SESSION_TOKEN", TOKEN)
    bedrock_provider._client.cache_clear()
    with scripted_provider() as told:
        yield told
    bedrock_provider._client.cache_clear()


def _target(url: str) -> Target:
    account = ProviderAccount(
        name="p", kind=ProviderKind.BEDROCK, base_url=url, region="eu-central-1", models=frozenset({"b", "a"})
    )
    return Target(account=account, model=MODEL, shown_as="m", price=TokenPrice(1, 1, 1, source="test"))


def _run[T](work: Coroutine[Any, Any, T]) -> T:
    return uvloop.run(work)


def _chat(scripted: Scripted, *, timeout_s: float = 5) -> Any:
    return _run(PROVIDER.chat(_target(scripted.url), "", BODY, timeout_s=timeout_s))


def _stream(
    scripted: Scripted, *, first_token_s: float = 5, timeout_s: float = 5
) -> tuple[list[Chunk], Exception | None]:
    async def read() -> tuple[list[Chunk], Exception | None]:
        found: list[Chunk] = []
        stream = PROVIDER.stream(_target(scripted.url), "", BODY, first_token_s=first_token_s, timeout_s=timeout_s)
        try:
            while True:
                found.append(await anext(stream))
        except StopAsyncIteration:
            return found, None
        except RunyardError as error:
            return found, error

    return _run(read())


def test_a_conversation_is_asked_for_under_the_platforms_role(scripted: Scripted) -> None:
    scripted.will(answer(MESSAGE, headers=REQUEST_ID))
    found = _chat(scripted)
    assert found.tokens == TOKENS
    assert (found.body["id"], found.body["model"]) == ("chatcmpl-6f1c1c5e", MODEL)
    assert found.body["choices"][0]["message"]["content"] == "Hi"
    [heard] = scripted.heard
    assert heard.path == f"/model/{MODEL.replace(':', '%3A')}/converse"
    assert heard.headers["authorization"].startswith("AWS4-HMAC-SHA256 Credential=AKIATEST/")
    assert "/eu-central-1/bedrock/" in heard.headers["authorization"]
    assert heard.body == {
        "messages": [{"role": "user", "content": [{"text": "Hello ✓"}]}],
        "inferenceConfig": {"maxTokens": 9},
    }


def test_models_are_those_that_were_set_up_and_embeddings_are_not_served(scripted: Scripted) -> None:
    assert [model["id"] for model in _run(PROVIDER.models(_target(""), "", timeout_s=5))] == ["a", "b"]
    with pytest.raises(NotServed):
        _run(PROVIDER.embed(_target(""), "", ["a"], dimensions=None, timeout_s=5))


def test_a_stream_comes_event_by_event(scripted: Scripted) -> None:
    everything = b"".join(WHOLE)
    scripted.will(_says(everything[:7], everything[7:150], everything[150:]))
    chunks, error = _stream(scripted)
    assert error is None
    assert "".join(chunk.text for chunk in chunks) == "Hi"
    assert chunks[-1].tokens == TOKENS
    assert scripted.heard[0].path.endswith("/converse-stream")


def _refuses(kind: str, status: int, message: str = "No.", **headers: str) -> list[Any]:
    return answer({"message": message}, status=status, headers={"x-amzn-errortype": f"{kind}:http://x/", **headers})


FAULTS: dict[str, tuple[list[Any], type[RunyardError]]] = {
    "validation": (_refuses("ValidationException", 400), ProviderRefused),
    "too long": (_refuses("ValidationException", 400, "Input is too long for requested model."), ContextTooLong),
    "denied": (_refuses("AccessDeniedException", 403), ProviderMisconfigured),
    "no model": (_refuses("ResourceNotFoundException", 404), ModelNotFound),
    "model timeout": (_refuses("ModelTimeoutException", 408), ProviderTimedOut),
    "model error": (_refuses("ModelErrorException", 424), ProviderFailed),
    "throttling": (_refuses("ThrottlingException", 429, **{"retry-after": "7"}), ProviderRateLimited),
    "internal": (_refuses("InternalServerException", 500), ProviderFailed),
    "unavailable": (_refuses("ServiceUnavailableException", 503), ProviderFailed),
    "no json": (answer(b"<html>", kind="text/html"), ProviderAnsweredWrongly),
    "no usage": (answer({**MESSAGE, "usage": {}}), ProviderAnsweredWrongly),
    "hung up": ([None], ProviderUnreachable),
    "hang": ([HANG], ProviderTimedOut),
}


@pytest.mark.parametrize(("said", "error"), FAULTS.values(), ids=FAULTS.keys())
def test_a_fault_is_told_by_its_kind_and_without_the_roles_secrets(
    scripted: Scripted, said: list[Any], error: type[RunyardError], caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("", "botocore", "boto3", "urllib3"):
        caplog.set_level(logging.DEBUG, name)
    scripted.will(said)
    with pytest.raises(RunyardError) as raised:
        _chat(scripted, timeout_s=0.5 if HANG in said else 5)
    assert type(raised.value) is error
    # What is tried again, and where, is for the route to say.
    assert len(scripted.heard) == 1
    if error is ProviderRateLimited:
        assert raised.value.retry_after_s == 7
    written = caplog.text + "".join(f"{record.__dict__}" for record in caplog.records)
    for secret in (SECRET, TOKEN):
        assert secret not in all_there_is(raised.value)
        assert secret not in written


def test_without_a_role_the_operator_is_told(monkeypatch: pytest.MonkeyPatch, scripted: Scripted) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    with pytest.raises(ProviderMisconfigured):
        _chat(scripted)


def test_nobody_there_is_told(scripted: Scripted) -> None:
    with pytest.raises(ProviderUnreachable):
        _run(PROVIDER.chat(_target("http://127.0.0.1:1"), "", BODY, timeout_s=5))


STREAMS: dict[str, tuple[list[Any], type[RunyardError] | None]] = {
    "whole": (_says(*WHOLE), None),
    "no end": (_says(START, TEXT, *STOP), StreamBroken),
    "hung up": (_says(START, TEXT, None), StreamBroken),
    "an error": (_says(START, TEXT, _fault("modelStreamErrorException")), StreamBroken),
    "an error at first": (_says(_fault("throttlingException")), ProviderRateLimited),
    "an invalid request at first": (_says(_fault("validationException")), ProviderRefused),
    "another error at first": (_says(START, _fault("internalServerException")), ProviderFailed),
    "cut frame": (_says(START, TEXT, COUNTED[:20]), StreamBroken),
    "damaged frame": (_says(START, TEXT, COUNTED[:-1] + b"\x00"), StreamBroken),
    "silence at first": (_says(START, HANG), ProviderTimedOut),
    "silence later": (_says(START, TEXT, HANG), StreamBroken),
    "429": (_refuses("ThrottlingException", 429), ProviderRateLimited),
    "hang": ([HANG], ProviderTimedOut),
}


@pytest.mark.parametrize(("said", "error"), STREAMS.values(), ids=STREAMS.keys())
def test_a_stream_ends_whole_or_is_told_to_be_broken(
    scripted: Scripted, said: list[Any], error: type[RunyardError] | None
) -> None:
    scripted.will(said)
    quick = HANG in said
    chunks, found = _stream(scripted, first_token_s=0.5 if quick else 5, timeout_s=0.7 if quick else 5)
    assert (type(found) if found else None) is error
    assert bool([chunk for chunk in chunks if chunk.text]) is (error in (None, StreamBroken))
    for secret in (SECRET, TOKEN):
        assert found is None or secret not in all_there_is(found)


def test_a_stream_that_is_left_ends_its_connection_and_its_thread(scripted: Scripted) -> None:
    async def leave() -> float:
        scripted.will(_says(START, TEXT, HANG))
        scripted.left.clear()
        async with aclosing(PROVIDER.stream(_target(scripted.url), "", BODY, first_token_s=5, timeout_s=30)) as chunks:
            async for chunk in chunks:
                if chunk.text:
                    break
        began = time.monotonic()
        assert await asyncio.to_thread(scripted.left.wait, 30)
        took_s = time.monotonic() - began
        await asyncio.to_thread(until, _no_thread_works, "idle threads")
        return took_s

    assert takes_less_than(0.1, lambda: _run(leave()))


def test_a_cancelled_stream_ends_its_connection(scripted: Scripted) -> None:
    async def cancel() -> float:
        scripted.will(_says(START, HANG))
        scripted.left.clear()

        async def read() -> None:
            async for _ in PROVIDER.stream(_target(scripted.url), "", BODY, first_token_s=5, timeout_s=30):
                began.set()

        began = asyncio.Event()
        task = asyncio.create_task(read())
        await began.wait()
        task.cancel()
        cancelled = time.monotonic()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await asyncio.to_thread(scripted.left.wait, 30)
        return time.monotonic() - cancelled

    assert takes_less_than(0.1, lambda: _run(cancel()))


def _no_thread_works() -> bool:
    """Return whether all threads of the provider are idle."""
    pool = bedrock_provider._threads()
    return bool(pool._idle_semaphore._value == len(pool._threads))
