"""Streams under real uvicorn: chunks pass when they come, silences are kept alive, and who hangs up is noticed."""

import json
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import httpx
import openai
import pytest
from openai import OpenAI
from redis import Redis

from shared.identity import service as identity
from shared.inference.calls import CacheStatus
from shared.inference.edge import app as edge
from shared.inference.edge import streams
from shared.inference.errors import StreamBroken
from shared.kernel import db
from shared.kernel.caller import Caller
from shared.kernel.http import handler_of
from tests.api_gateway import Answer
from tests.fake_gateway import FakeGateway, chunk
from tests.http_server import listening
from tests.waiting import takes_less_than, until

CHAT = "/v1/chat/completions"
HELLO: dict[str, Any] = {"messages": [{"role": "user", "content": "hello"}], "stream": True}
# Long beyond any test's patience: whoever waits for it has failed.
NEVER = 60.0


@pytest.fixture
def gateway() -> FakeGateway:
    return FakeGateway()


@pytest.fixture
def key(org: Caller) -> str:
    with db.tenant(org) as tx:
        _, secret = identity.create_key(tx, org, name="k", scopes=None, expires_at=None, metadata={})
    return secret.text


@pytest.fixture
def url(gateway: FakeGateway, redis: Redis) -> Iterator[str]:
    with listening(edge.create(gateway)) as address:
        yield address


@pytest.fixture
def client(url: str, key: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=url, headers={"authorization": f"Bearer {key}"}, timeout=20) as made:
        yield made


def data_of(text: str) -> list[Any]:
    found = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: ")]
    return [one if one == "[DONE]" else json.loads(one) for one in found]


def test_a_stream_is_events_that_end_with_done(client: httpx.Client, gateway: FakeGateway) -> None:
    answer = client.post(CHAT, json=HELLO)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert (answer.headers["cache-control"], answer.headers["x-runyard-provider"]) == ("no-cache", "stub")
    assert answer.headers["x-request-id"] == gateway.asked[0].caller.request_id
    # What isn't known yet isn't told.
    assert "x-runyard-cost-microusd" not in answer.headers
    *chunks, done = data_of(answer.text)
    assert done == "[DONE]"
    assert "".join(one["choices"][0]["delta"].get("content") or "" for one in chunks) == "Hello you."
    assert gateway.asked[0].include_usage is False


def test_a_cached_stream_says_that_it_cost_nothing(client: httpx.Client, gateway: FakeGateway) -> None:
    gateway.known.cache = CacheStatus.HIT
    answer = client.post(CHAT, json=HELLO)
    assert (answer.headers["x-runyard-cache"], answer.headers["x-runyard-cost-microusd"]) == ("hit", "0")


def test_the_usage_and_its_cost_come_last_when_they_are_asked_for(client: httpx.Client) -> None:
    answer = client.post(CHAT, json=HELLO | {"stream_options": {"include_usage": True}})
    usage = data_of(answer.text)[-2]
    assert usage["choices"] == []
    assert (usage["usage"]["total_tokens"], usage["usage"]["cost_microusd"]) == (12, 7)


@pytest.mark.parametrize("path", [CHAT, "/v1/responses"])
def test_the_first_chunk_arrives_before_the_last_is_there(
    client: httpx.Client, gateway: FakeGateway, path: str
) -> None:
    gateway.chunks = [chunk(content="first"), NEVER]
    body = HELLO if path == CHAT else {"input": "hello", "stream": True}
    with client.stream("POST", path, json=body) as answer:
        for text in answer.iter_text():
            if "first" in text:
                break


def test_an_error_after_the_first_chunk_ends_the_stream_as_openais_clients_expect(
    client: httpx.Client, gateway: FakeGateway, url: str, key: str
) -> None:
    gateway.chunks = [chunk(content="He"), StreamBroken("The provider's stream ended early.")]
    answer = client.post(CHAT, json=HELLO)
    *_, last = data_of(answer.text)
    assert last["error"]["code"] == "stream_broken"
    assert last["error"]["request_id"] == answer.headers["x-request-id"]
    assert "[DONE]" not in answer.text

    with OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0) as real:
        messages: Any = HELLO["messages"]
        stream = real.chat.completions.create(model="m", messages=messages, stream=True)
        said: list[str | None] = []
        with pytest.raises(openai.APIError, match="ended early") as broken:
            said += [one.choices[0].delta.content for one in stream]
        assert broken.value.code == "stream_broken"
        with pytest.raises(openai.APIError, match="ended early"):
            list(real.responses.create(model="m", input="hello", stream=True))


def test_a_fault_of_ours_in_mid_stream_tells_nothing_of_the_inside(client: httpx.Client, gateway: FakeGateway) -> None:
    gateway.chunks = [chunk(content="He"), RuntimeError("password=hunter2")]
    answer = client.post(CHAT, json=HELLO)
    assert data_of(answer.text)[-1]["error"]["code"] == "internal"
    assert "hunter2" not in answer.text


def test_a_silence_is_kept_alive_with_comments(
    client: httpx.Client, gateway: FakeGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "SILENCE_S", 0.1)
    gateway.chunks = [chunk(content="a"), 0.45, chunk(content="b")]
    text = client.post(CHAT, json=HELLO).text
    assert 2 <= text.count(": keep-alive\n\n") <= 5
    assert [one if one == "[DONE]" else one["choices"][0]["delta"]["content"] for one in data_of(text)] == [
        "a",
        "b",
        "[DONE]",
    ]


def test_where_there_is_no_silence_there_is_no_comment(
    client: httpx.Client, gateway: FakeGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "SILENCE_S", 0.3)
    gateway.chunks = [each for _ in range(8) for each in (0.1, chunk(content="a"))]
    assert "keep-alive" not in client.post(CHAT, json=HELLO).text


@pytest.mark.parametrize(
    "chunks",
    [
        (chunk(content="He"), NEVER),
        (chunk(content="He"), *[each for _ in range(500) for each in (0.01, chunk(content="l"))]),
    ],
    ids=["in a silence", "between chunks"],
)
@pytest.mark.parametrize("path", [CHAT, "/v1/responses"])
def test_whoever_hangs_up_stops_the_answer_at_once(
    client: httpx.Client, gateway: FakeGateway, path: str, chunks: Any
) -> None:
    gateway.chunks = chunks
    body = HELLO if path == CHAT else {"input": "hello", "stream": True}

    def stopped_after_s() -> float:
        gateway.closed_at = None
        with client.stream("POST", path, json=body) as answer:
            next(answer.iter_raw())
        hung_up = time.monotonic()
        return _closed(gateway) - hung_up

    assert takes_less_than(0.1, stopped_after_s)


def test_whoever_hangs_up_before_the_first_chunk_stops_the_call_too(url: str, gateway: FakeGateway, key: str) -> None:
    gateway.delay_s = NEVER
    body = json.dumps(HELLO).encode()
    address = urlsplit(url)
    head = f"POST {CHAT} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\ncontent-length: {len(body)}\r\n\r\n"

    def stopped_after_s() -> float:
        gateway.asked.clear()
        gateway.closed_at = None
        with socket.create_connection((address.hostname or "", address.port or 0)) as connection:
            connection.sendall(head.encode() + body)
            until(lambda: gateway.asked, "the call")
        hung_up = time.monotonic()
        return _closed(gateway) - hung_up

    assert takes_less_than(0.1, stopped_after_s)


def test_a_key_of_repetition_is_given_back_by_whoever_hangs_up(client: httpx.Client, gateway: FakeGateway) -> None:
    whole, gateway.chunks = gateway.chunks, (chunk(content="He"), NEVER)
    with client.stream("POST", CHAT, json=HELLO, headers={"idempotency-key": "k"}) as answer:
        next(answer.iter_raw())
    _closed(gateway)
    gateway.chunks = whole

    def again() -> bool:
        return client.post(CHAT, json=HELLO, headers={"idempotency-key": "k"}).status_code == 200

    until(again, "the key of repetition")


def test_who_waits_for_a_whole_answer_and_hangs_up_has_it_made_all_the_same(
    url: str, gateway: FakeGateway, key: str
) -> None:
    gateway.delay_s = 0.3
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(
            f"{url}{CHAT}", json=HELLO | {"stream": False}, headers={"authorization": f"Bearer {key}"}, timeout=0.1
        )
    until(lambda: gateway.completed == 1, "the whole answer")


def test_behind_api_gateway_a_stream_comes_in_one_piece(
    org: Caller, gateway: FakeGateway, call: Callable[..., Answer]
) -> None:
    handler = handler_of(edge.create(gateway))
    answer = call(handler, "POST", CHAT, org, json=HELLO)
    assert (answer.status, answer.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
    assert data_of(answer.text)[-1] == "[DONE]"
    assert gateway.asked[0].timeout_s < 30
    assert gateway.asked[0].caller.org_id == org.org_id


def _closed(gateway: FakeGateway) -> float:
    return until(lambda: gateway.closed_at, "the end of the call")
