"""The gateway's HTTP API: OpenAI's shapes, our envelope, answered once per Idempotency-Key."""

from collections.abc import Callable
from typing import Any

import pytest

from functions.api.inference import handler
from shared.billing import service as billing
from shared.kernel import db
from shared.kernel.caller import Caller
from tests.api_gateway import Answer
from tests.model_provider import Provider

CHAT = "/v1/chat/completions"
HELLO: dict[str, Any] = {"messages": [{"role": "user", "content": "hello"}]}


@pytest.fixture
def post(org: Caller, provider: Provider, call: Callable[..., Answer]) -> Callable[..., Answer]:
    """`post(path, body, **headers)` as a tenant with credits."""
    with db.tenant(org) as tx:
        billing.grant(tx, org, amount_microusd=1_000_000, source_id="grant", reason="test")
    return lambda path, body, **headers: call(handler, "POST", path, org, json=body, headers=headers)


def test_a_completion_tells_its_cost_and_its_provider(post: Callable[..., Answer]) -> None:
    answer = post(CHAT, HELLO)

    assert answer.status == 200
    assert answer.json["object"] == "chat.completion"
    assert answer.json["choices"][0]["message"]["role"] == "assistant"
    assert int(answer.headers["x-runyard-cost-microusd"]) > 0
    assert answer.headers["x-runyard-provider"] == "127.0.0.1"


def test_the_same_idempotency_key_gets_the_first_answer(post: Callable[..., Answer], provider: Provider) -> None:
    first = post(CHAT, HELLO, **{"idempotency-key": "k"})
    again = post(CHAT, HELLO, **{"idempotency-key": "k"})

    assert again.json == first.json
    assert again.headers["idempotency-replayed"] == "true"
    assert len(provider.asked) == 1


def test_a_failed_request_gives_its_idempotency_key_back(post: Callable[..., Answer], provider: Provider) -> None:
    provider.fails(500)
    assert post(CHAT, HELLO, **{"idempotency-key": "k"}).error == "provider_failed"
    assert post(CHAT, HELLO, **{"idempotency-key": "k"}).status == 200


def test_a_rate_limit_of_the_provider_is_a_429_with_retry_after(
    post: Callable[..., Answer], provider: Provider
) -> None:
    provider.fails(429, headers={"retry-after": "3"})
    answer = post(CHAT, HELLO)
    assert (answer.status, answer.error, answer.headers["retry-after"]) == (429, "provider_rate_limited", "3")


def test_options_reach_the_provider_as_they_were_sent(post: Callable[..., Answer], provider: Provider) -> None:
    post(CHAT, {**HELLO, "temperature": 0.25, "seed": 7, "max_tokens": 9, "stop": ["x"]})
    sent = provider.asked[-1].body
    assert (sent["temperature"], sent["seed"], sent["stop"]) == (0.25, 7, ["x"])
    assert sent["max_completion_tokens"] == 9
    assert "max_tokens" not in sent


def test_a_whole_answer_may_be_sent_back_as_a_message(post: Callable[..., Answer], provider: Provider) -> None:
    said: dict[str, Any] = {"role": "assistant", "content": "hi", "annotations": [], "audio": None, "refusal": None}
    assert post(CHAT, {"messages": [*HELLO["messages"], said, *HELLO["messages"]]}).status == 200
    assert "annotations" not in provider.asked[-1].body["messages"][1]


@pytest.mark.parametrize(
    ("change", "code", "param"),
    [
        ({"messages": []}, "invalid_request", "messages"),
        ({"temprature": 1}, "invalid_request", "temprature"),
        ({"n": 2}, "invalid_request", "n"),
        ({"max_tokens": 0}, "invalid_request", "max_tokens"),
        ({"messages": [{"role": "user", "content": "a\x00b"}]}, "invalid_request", None),
    ],
    ids=["no messages", "misspelt", "two answers", "no tokens", "NUL"],
)
def test_what_cannot_be_answered_is_refused_by_name(
    post: Callable[..., Answer], provider: Provider, change: dict[str, Any], code: str, param: str | None
) -> None:
    answer = post(CHAT, HELLO | change)
    assert (answer.status, answer.error, answer.json["error"]["param"]) == (400, code, param)
    assert provider.asked == []


@pytest.mark.parametrize(
    "part", [{"type": "input_audio", "input_audio": {"data": "", "format": "wav"}}, {"type": "file"}]
)
def test_sound_and_files_are_refused_because_no_provider_here_takes_them(
    post: Callable[..., Answer], provider: Provider, part: dict[str, Any]
) -> None:
    answer = post(CHAT, {"messages": [{"role": "user", "content": [part]}]})
    assert (answer.status, answer.error) == (400, "not_supported_by_provider")
    assert provider.asked == []


def test_an_image_is_handed_to_the_provider(post: Callable[..., Answer], provider: Provider) -> None:
    image = {"type": "image_url", "image_url": {"url": "https://example.com/x.png"}}
    assert post(CHAT, {"messages": [{"role": "user", "content": [image]}]}).status == 200
    assert provider.asked[-1].body["messages"][0]["content"] == [image]


def test_an_equal_request_is_answered_from_the_cache_for_nothing_and_a_rivals_is_not(
    post: Callable[..., Answer], provider: Provider, call: Callable[..., Answer], rival: Caller
) -> None:
    first, again = post(CHAT, HELLO), post(CHAT, HELLO)
    assert [answer.headers["x-runyard-cache"] for answer in (first, again)] == ["miss", "hit"]
    assert again.headers["x-runyard-cost-microusd"] == "0"
    assert again.json["choices"] == first.json["choices"]
    assert post(CHAT, HELLO, **{"x-runyard-cache": "off"}).headers["x-runyard-cache"] == "off"
    assert len(provider.asked) == 2

    with db.tenant(rival) as tx:
        billing.grant(tx, rival, amount_microusd=1_000_000, source_id="grant", reason="test")
    assert call(handler, "POST", CHAT, rival, json=HELLO).headers["x-runyard-cache"] == "miss"
    assert len(provider.asked) == 3


def test_a_request_is_counted_once_whoever_counts_it(post: Callable[..., Answer], org: Caller) -> None:
    for body in (HELLO, HELLO, {}, HELLO | {"model": "nope"}, HELLO | {"stream": True}):
        post(CHAT, body)
    with db.tenant(org) as tx:
        row = tx.execute("SELECT sum(calls)::int AS calls FROM api_calls").fetchone()
    assert row is not None
    assert row["calls"] == 5


def test_a_stream_behind_api_gateway_is_whole_and_paid(post: Callable[..., Answer], org: Caller) -> None:
    answer = post(CHAT, HELLO | {"stream": True, "stream_options": {"include_usage": True}})
    assert (answer.status, answer.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
    assert answer.text.endswith("data: [DONE]\n\n")
    with db.tenant(org) as tx:
        assert billing.balance(tx).settled_microusd > 0
        assert billing.balance(tx).held_microusd == 0


def test_an_unknown_model_is_a_404(post: Callable[..., Answer]) -> None:
    answer = post(CHAT, HELLO | {"model": "nope"})
    assert (answer.status, answer.error) == (404, "model_not_found")


@pytest.mark.parametrize("body", [{"input": ""}, {"input": []}, {"input": ["a", ""]}, {"input": ["a"] * 2_049}])
def test_embeddings_need_texts(post: Callable[..., Answer], body: dict[str, Any]) -> None:
    assert post("/v1/embeddings", body).status == 400


def test_models_are_those_that_are_served_and_have_a_price(
    org: Caller, provider: Provider, call: Callable[..., Answer]
) -> None:
    provider.answers({"object": "list", "data": [{"id": "runyard-offline"}, {"id": "no-price"}]})
    answer = call(handler, "GET", "/v1/models", org)
    assert [model["id"] for model in answer.json["data"]] == ["runyard-offline"]
