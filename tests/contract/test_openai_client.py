"""The real `openai` client works against the gateway by changing its base URL, its own exception types included."""

import asyncio
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from openai.types.chat import ChatCompletionToolParam

from functions.api import inference
from shared.billing import service as billing
from shared.kernel import clock, db
from shared.kernel.caller import Caller
from tests.contract.conftest import API_KEY
from tests.model_provider import Provider

MODEL = "runyard-offline"
WEATHER: ChatCompletionToolParam = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


@pytest.fixture
def url(serve: Callable[..., str], provider: Provider, org: Caller) -> str:
    with db.tenant(org) as tx:
        billing.grant(tx, org, amount_microusd=1_000_000, source_id="grant", reason="test")
    return f"{serve(inference.router)}/v1"


@pytest.fixture
def client(url: str) -> Iterator[OpenAI]:
    with OpenAI(base_url=url, api_key=API_KEY, max_retries=0, timeout=20) as made:
        yield made


def ask(client: OpenAI, model: str = MODEL) -> str:
    answer = client.chat.completions.create(model=model, messages=[{"role": "user", "content": "hello"}])
    return answer.choices[0].message.content or ""


def test_a_chat_is_answered_with_its_usage(client: OpenAI) -> None:
    answer = client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "hello"}])

    assert answer.choices[0].message.content
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens > 0


def test_a_tool_is_called_and_its_result_taken(client: OpenAI) -> None:
    question: Any = {"role": "user", "content": "What is the weather in Oslo?"}
    first = client.chat.completions.create(
        model=MODEL,
        messages=[question],
        tools=[WEATHER],
        tool_choice={"type": "function", "function": {"name": "weather"}},
    )
    message = first.choices[0].message
    assert message.tool_calls is not None
    call = message.tool_calls[0]
    assert call.type == "function"
    assert call.function.name == "weather"
    assert "city" in json.loads(call.function.arguments)

    history: Any = [question, message, {"role": "tool", "tool_call_id": call.id, "content": "3 degrees"}]
    second = client.chat.completions.create(
        model=MODEL,
        messages=history,
        tools=[WEATHER],
        tool_choice="none",
    )
    assert second.choices[0].message.content


def test_a_json_schema_is_followed(client: OpenAI) -> None:
    schema: dict[str, Any] = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    answer = client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": "a number"}],
        response_format={"type": "json_schema", "json_schema": {"name": "number", "schema": schema}},
    )
    assert isinstance(json.loads(answer.choices[0].message.content or "")["n"], int)


@pytest.mark.parametrize("encoding", [None, "float", "base64"])
def test_embeddings_come_in_order_in_either_encoding(client: OpenAI, encoding: str | None) -> None:
    asked: dict[str, Any] = {} if encoding is None else {"encoding_format": encoding}
    found = client.embeddings.create(
        model="runyard-offline-embed",
        input=["red apples", "the moon"],
        dimensions=64,
        **asked,
    )
    assert [one.index for one in found.data] == [0, 1]
    assert found.usage.prompt_tokens > 0
    if encoding != "base64":
        assert [len(one.embedding) for one in found.data] == [64, 64]
        assert found.data[0].embedding != found.data[1].embedding


def test_models_are_listed(client: OpenAI) -> None:
    assert MODEL in [model.id for model in client.models.list()]


def test_the_async_client_works_too(url: str) -> None:
    async def chat() -> str:
        async with AsyncOpenAI(base_url=url, api_key=API_KEY, max_retries=0, timeout=20) as client:
            answer = await client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "hello"}])
            return answer.choices[0].message.content or ""

    # In a thread of its own: the main thread's event loop is Mangum's.
    with ThreadPoolExecutor(1) as thread:
        assert thread.submit(asyncio.run, chat()).result()


def test_a_wrong_key_is_an_authentication_error(url: str) -> None:
    with OpenAI(base_url=url, api_key="wrong", max_retries=0) as client, pytest.raises(openai.AuthenticationError):
        ask(client)


def test_an_unknown_model_is_a_not_found_error(client: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as failed:
        ask(client, "no-such-model")
    assert (failed.value.code, failed.value.param, failed.value.type) == ("model_not_found", "model", "not_found_error")
    assert failed.value.request_id


def test_a_stream_is_a_bad_request_error_that_says_why(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as failed:
        client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "hello"}], stream=True)
    assert (failed.value.code, failed.value.param) == ("streaming_not_available", "stream")


def test_the_providers_rate_limit_is_a_rate_limit_error(client: OpenAI, provider: Provider) -> None:
    provider.fails(429, headers={"retry-after": "2"})
    with pytest.raises(openai.RateLimitError) as failed:
        ask(client)
    assert failed.value.response.headers["retry-after"] == "2"


def test_a_failing_provider_is_an_internal_server_error(client: OpenAI, provider: Provider) -> None:
    provider.fails(500)
    with pytest.raises(openai.InternalServerError) as failed:
        ask(client)
    assert (failed.value.status_code, failed.value.code) == (502, "provider_failed")


def test_the_clients_own_retry_gets_past_a_failure(url: str, provider: Provider) -> None:
    provider.fails(500)
    with OpenAI(base_url=url, api_key=API_KEY, max_retries=1) as client:
        assert ask(client)
    assert len(provider.asked) == 2


def test_no_credits_is_a_402(client: OpenAI, org: Caller) -> None:
    with db.tenant(org) as tx:
        available = billing.balance(tx).available_microusd
        expires_at = clock.now() + timedelta(hours=1)
        billing.hold(tx, org, amount_microusd=available, source_id="all", expires_at=expires_at)
    with pytest.raises(openai.APIStatusError) as failed:
        ask(client)
    assert (failed.value.status_code, failed.value.code) == (402, "insufficient_credits")
