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
        ({"stream": True}, "streaming_not_available", "stream"),
        ({"messages": []}, "invalid_request", "messages"),
        ({"temprature": 1}, "invalid_request", "temprature"),
        ({"n": 2}, "invalid_request", "n"),
        ({"max_tokens": 0}, "invalid_request", "max_tokens"),
        ({"messages": [{"role": "user", "content": "a\x00b"}]}, "invalid_request", None),
    ],
    ids=["stream", "no messages", "misspelt", "two answers", "no tokens", "NUL"],
)
def test_what_cannot_be_answered_is_refused_by_name(
    post: Callable[..., Answer], provider: Provider, change: dict[str, Any], code: str, param: str | None
) -> None:
    answer = post(CHAT, HELLO | change)
    assert (answer.status, answer.error, answer.json["error"]["param"]) == (400, code, param)
    assert provider.asked == []


def test_images_are_refused_because_their_tokens_have_no_bound(post: Callable[..., Answer], provider: Provider) -> None:
    image = {"type": "image_url", "image_url": {"url": "https://example.com/x.png"}}
    assert post(CHAT, {"messages": [{"role": "user", "content": [image]}]}).status == 400
    assert provider.asked == []


def test_an_unknown_model_is_a_404(post: Callable[..., Answer]) -> None:
    answer = post(CHAT, HELLO | {"model": "nope"})
    assert (answer.status, answer.error) == (404, "model_not_found")


@pytest.mark.parametrize("body", [{"input": ""}, {"input": []}, {"input": ["a", ""]}, {"input": ["a"] * 257}])
def test_embeddings_need_texts(post: Callable[..., Answer], body: dict[str, Any]) -> None:
    assert post("/v1/embeddings", body).status == 400


def test_models_are_those_that_are_served_and_have_a_price(
    org: Caller, provider: Provider, call: Callable[..., Answer]
) -> None:
    provider.answers({"object": "list", "data": [{"id": "runyard-offline"}, {"id": "no-price"}]})
    answer = call(handler, "GET", "/v1/models", org)
    assert [model["id"] for model in answer.json["data"]] == ["runyard-offline"]
