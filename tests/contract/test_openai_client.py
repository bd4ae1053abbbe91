"""The real `openai` client works against the gateway by changing its base URL, its own exception types included."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from openai.types.chat import ChatCompletionToolParam
from openai.types.responses import FunctionToolParam
from pydantic import BaseModel
from starlette.responses import StreamingResponse

from shared.billing import service as billing
from shared.identity import service as identity
from shared.kernel import clock, db
from shared.kernel.caller import Caller
from tests.in_loop import run
from tests.model_provider import Provider
from tests.waiting import until

MODEL = "runyard-offline"
HELLO: Any = [{"role": "user", "content": "hello"}]
PARAMETERS: dict[str, Any] = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER: ChatCompletionToolParam = {
    "type": "function",
    "function": {"name": "weather", "parameters": PARAMETERS},
}
WEATHER_TOO: FunctionToolParam = {"type": "function", "name": "weather", "parameters": PARAMETERS, "strict": False}


@pytest.fixture
def client(url: str, api_key: str) -> Iterator[OpenAI]:
    with OpenAI(base_url=url, api_key=api_key, max_retries=0, timeout=20) as made:
        yield made


def ask(client: OpenAI, model: str = MODEL) -> str:
    answer = client.chat.completions.create(model=model, messages=HELLO)
    return answer.choices[0].message.content or ""


class TestChat:
    def test_a_chat_is_answered_with_its_usage(self, client: OpenAI) -> None:
        answer = client.chat.completions.create(model=MODEL, messages=HELLO)

        assert answer.choices[0].message.content
        assert answer.choices[0].finish_reason == "stop"
        assert answer.usage is not None
        assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens > 0

    def test_the_headers_tell_cost_provider_cache_and_request(self, client: OpenAI) -> None:
        raw = client.chat.completions.with_raw_response.create(model=MODEL, messages=HELLO)
        again = client.chat.completions.with_raw_response.create(model=MODEL, messages=HELLO)

        assert int(raw.headers["x-runyard-cost-microusd"]) > 0
        assert int(raw.headers["x-runyard-overhead-ms"]) >= 0
        assert (raw.headers["x-runyard-cache"], raw.headers["x-runyard-provider"]) == ("miss", "127.0.0.1")
        assert raw.headers["x-request-id"] == raw.request_id != again.request_id
        assert (again.headers["x-runyard-cache"], again.headers["x-runyard-cost-microusd"]) == ("hit", "0")
        assert int(raw.headers["x-ratelimit-remaining-requests"]) >= 0

    def test_a_tool_is_called_and_its_result_taken(self, client: OpenAI) -> None:
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
        second = client.chat.completions.create(model=MODEL, messages=history, tools=[WEATHER], tool_choice="none")
        assert second.choices[0].message.content

    def test_a_json_schema_is_followed(self, client: OpenAI) -> None:
        schema: dict[str, Any] = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
        answer = client.chat.completions.create(
            model=MODEL,
            messages=[{"role": "user", "content": "a number"}],
            response_format={"type": "json_schema", "json_schema": {"name": "number", "schema": schema}},
        )
        assert isinstance(json.loads(answer.choices[0].message.content or "")["n"], int)

    def test_an_answer_is_parsed_into_the_clients_own_class(self, client: OpenAI) -> None:
        answer = client.chat.completions.parse(model=MODEL, messages=HELLO, response_format=Weather)
        assert isinstance(answer.choices[0].message.parsed, Weather)

    def test_an_image_reaches_the_provider(self, client: OpenAI, provider: Provider) -> None:
        part = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo=", "detail": "low"}}
        messages: Any = [{"role": "user", "content": [{"type": "text", "text": "what is it?"}, part]}]
        assert client.chat.completions.create(model=MODEL, messages=messages).choices[0].message.content
        assert provider.asked[-1].body["messages"][0]["content"][1] == part

    def test_the_async_client_works_too(self, url: str, api_key: str) -> None:
        async def chat() -> str:
            async with AsyncOpenAI(base_url=url, api_key=api_key, max_retries=0, timeout=20) as client:
                answer = await client.chat.completions.create(model=MODEL, messages=HELLO)
                return answer.choices[0].message.content or ""

        assert run(chat())


class Weather(BaseModel):
    city: str
    degrees: int


class TestStreams:
    def test_a_stream_is_the_same_answer_piece_by_piece(self, client: OpenAI) -> None:
        whole = ask(client)
        chunks = list(client.chat.completions.create(model=MODEL, messages=HELLO, seed=1, stream=True))
        assert len(chunks) > 3
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == whole
        assert [chunk.choices[0].finish_reason for chunk in chunks][-1] == "stop"
        assert all(chunk.usage is None for chunk in chunks)

    def test_the_last_chunk_tells_usage_and_cost_if_asked_to(self, client: OpenAI) -> None:
        stream = client.chat.completions.create(
            model=MODEL, messages=HELLO, stream=True, stream_options={"include_usage": True}
        )
        *_, last = stream
        assert last.choices == []
        assert last.usage is not None
        assert last.usage.total_tokens > 0
        assert (last.usage.model_extra or {})["cost_microusd"] > 0

    def test_a_stream_of_a_call_is_put_together_by_the_client(self, client: OpenAI) -> None:
        with client.chat.completions.stream(
            model=MODEL,
            messages=HELLO,
            tools=[WEATHER],
            tool_choice={"type": "function", "function": {"name": "weather"}},
        ) as stream:
            calls = stream.get_final_completion().choices[0].message.tool_calls
        assert calls
        assert "city" in json.loads(calls[0].function.arguments)

    def test_the_async_client_streams_too(self, url: str, api_key: str) -> None:
        async def chat() -> list[str]:
            async with AsyncOpenAI(base_url=url, api_key=api_key, max_retries=0, timeout=20) as client:
                stream = await client.chat.completions.create(model=MODEL, messages=HELLO, stream=True)
                return [chunk.choices[0].delta.content or "" async for chunk in stream]

        assert len(run(chat())) > 3

    def test_the_first_token_arrives_before_the_last_has_left_the_provider(
        self, client: OpenAI, provider: Provider
    ) -> None:
        go_on = threading.Event()

        async def body() -> AsyncIterator[bytes]:
            yield _event({"role": "assistant", "content": "first"})
            await asyncio.to_thread(go_on.wait, 10)
            yield _event({"content": " last"}) + _event({}, "stop") + b"data: [DONE]\n\n"

        provider.replies(lambda _: StreamingResponse(body(), media_type="text/event-stream"))
        said = []
        for chunk in client.chat.completions.create(model=MODEL, messages=HELLO, stream=True):
            said.append(chunk.choices[0].delta.content)
            if said[-1] == "first":
                assert not go_on.is_set()
                go_on.set()
        assert "".join(text or "" for text in said) == "first last"

    def test_whoever_hangs_up_stops_the_provider_and_pays_for_what_there_was(
        self, client: OpenAI, provider: Provider, org: Caller
    ) -> None:
        stopped = threading.Event()

        async def body() -> AsyncIterator[bytes]:
            try:
                yield _event({"role": "assistant", "content": "word " * 100})
                await asyncio.sleep(60)
            finally:
                stopped.set()

        provider.replies(lambda _: StreamingResponse(body(), media_type="text/event-stream"))
        stream = client.chat.completions.create(model=MODEL, messages=HELLO, stream=True)
        assert next(stream).choices[0].delta.content
        stream.close()

        assert stopped.wait(30)
        settled = until(lambda: _settled(org), "the charge")
        # 500 bytes are about 125 tokens; 4,096 had been held.
        price = billing.token_price(MODEL, at=clock.now())
        assert settled <= price.cost(input_tokens=20, cached_tokens=0, output_tokens=130).total_microusd

    def test_a_stream_that_breaks_is_an_api_error_after_what_there_was(
        self, client: OpenAI, provider: Provider
    ) -> None:
        async def body() -> AsyncIterator[bytes]:
            yield _event({"role": "assistant", "content": "first"})

        provider.replies(lambda _: StreamingResponse(body(), media_type="text/event-stream"))
        said: list[str | None] = []
        stream = client.chat.completions.create(model=MODEL, messages=HELLO, stream=True)
        with pytest.raises(openai.APIError) as broken:
            said.extend(chunk.choices[0].delta.content for chunk in stream)
        assert said == ["first"]
        assert broken.value.code == "stream_broken"

    def test_what_fails_before_the_first_chunk_has_its_own_exception(self, client: OpenAI, provider: Provider) -> None:
        provider.fails(429, times=3, headers={"retry-after": "7"})
        with pytest.raises(openai.RateLimitError):
            client.chat.completions.create(model=MODEL, messages=HELLO, stream=True)


def _settled(org: Caller) -> int:
    """Return what was settled once nothing is held any more."""
    with db.tenant(org) as tx:
        balance = billing.balance(tx)
    return 0 if balance.held_microusd else balance.settled_microusd


def _event(delta: dict[str, Any], finish_reason: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    chunk = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": MODEL, "choices": [choice]}
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"


class TestResponses:
    def test_a_response_has_text_and_usage(self, client: OpenAI) -> None:
        answer = client.responses.create(model=MODEL, input="hello", metadata={"k": "v"})
        assert answer.output_text
        assert (answer.status, answer.metadata) == ("completed", {"k": "v"})
        assert answer.usage is not None
        assert answer.usage.total_tokens == answer.usage.input_tokens + answer.usage.output_tokens > 0

    def test_a_function_is_called_and_its_output_taken(self, client: OpenAI) -> None:
        question: Any = {"role": "user", "content": "What is the weather in Oslo?"}
        first = client.responses.create(
            model=MODEL, input=[question], tools=[WEATHER_TOO], tool_choice={"type": "function", "name": "weather"}
        )
        call = first.output[0]
        assert call.type == "function_call"
        assert "city" in json.loads(call.arguments)

        done: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "3 degrees"}
        history: Any = [question, *first.output, done]
        assert client.responses.create(model=MODEL, input=history, tools=[WEATHER_TOO], tool_choice="none").output_text

    def test_an_answer_is_parsed_into_the_clients_own_class(self, client: OpenAI) -> None:
        answer = client.responses.parse(model=MODEL, input="hello", text_format=Weather)
        assert isinstance(answer.output_parsed, Weather)

    def test_a_stream_is_followed_by_the_client_to_its_end(self, client: OpenAI) -> None:
        with client.responses.stream(model=MODEL, input="hello") as stream:
            pieces = [event.delta for event in stream if event.type == "response.output_text.delta"]
            final = stream.get_final_response()
        assert len(pieces) > 3
        assert "".join(pieces) == final.output_text
        assert final.usage is not None
        assert final.usage.output_tokens > 0

    def test_a_stream_of_a_call_is_followed_too(self, client: OpenAI) -> None:
        with client.responses.stream(
            model=MODEL,
            input="hello",
            tools=[WEATHER_TOO],
            tool_choice={"type": "function", "name": "weather"},
        ) as stream:
            call = stream.get_final_response().output[0]
        assert call.type == "function_call"
        assert "city" in json.loads(call.arguments)

    def test_a_short_answer_is_incomplete(self, client: OpenAI) -> None:
        answer = client.responses.create(model=MODEL, input="hello", max_output_tokens=2)
        assert answer.status == "incomplete"
        assert answer.incomplete_details is not None
        assert answer.incomplete_details.reason == "max_output_tokens"

    def test_what_needs_kept_answers_is_a_bad_request_that_says_why(self, client: OpenAI) -> None:
        with pytest.raises(openai.BadRequestError, match="whole conversation") as refused:
            client.responses.create(model=MODEL, input="hello", previous_response_id="resp_1")
        assert (refused.value.code, refused.value.param) == ("not_supported_by_provider", "previous_response_id")


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


def test_models_are_listed_and_found(client: OpenAI) -> None:
    assert MODEL in [model.id for model in client.models.list()]
    assert client.models.retrieve(MODEL).id == MODEL
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("no-such-model")


class TestErrors:
    def test_a_wrong_key_is_an_authentication_error(self, url: str) -> None:
        with OpenAI(base_url=url, api_key="wrong", max_retries=0) as client, pytest.raises(openai.AuthenticationError):
            ask(client)

    def test_a_key_without_the_scope_is_a_permission_error(self, url: str, org: Caller) -> None:
        with db.tenant(org) as tx:
            scopes = frozenset({"inference:read"})
            _, secret = identity.create_key(tx, org, name="r", scopes=scopes, expires_at=None, metadata={})
        with (
            OpenAI(base_url=url, api_key=secret.text, max_retries=0) as client,
            pytest.raises(openai.PermissionDeniedError) as failed,
        ):
            ask(client)
        assert failed.value.code == "insufficient_scope"

    def test_an_unknown_model_is_a_not_found_error(self, client: OpenAI) -> None:
        with pytest.raises(openai.NotFoundError) as failed:
            ask(client, "no-such-model")
        told = failed.value
        assert (told.code, told.param, told.type) == ("model_not_found", "model", "not_found_error")
        assert told.request_id

    def test_a_misspelt_parameter_is_a_bad_request_error_that_names_it(self, client: OpenAI) -> None:
        with pytest.raises(openai.BadRequestError) as failed:
            client.chat.completions.create(model=MODEL, messages=HELLO, extra_body={"temprature": 1})
        assert (failed.value.code, failed.value.param) == ("invalid_request", "temprature")

    def test_an_idempotency_key_of_another_request_is_a_conflict_error(self, client: OpenAI) -> None:
        headers = {"Idempotency-Key": "k"}
        client.chat.completions.create(model=MODEL, messages=HELLO, extra_headers=headers)
        with pytest.raises(openai.ConflictError) as failed:
            client.chat.completions.create(model=MODEL, messages=HELLO, seed=1, extra_headers=headers)
        assert failed.value.code == "idempotency_key_reused"

    def test_the_providers_rate_limit_is_a_rate_limit_error(self, client: OpenAI, provider: Provider) -> None:
        provider.fails(429, times=2, headers={"retry-after": "7"})
        with pytest.raises(openai.RateLimitError) as failed:
            ask(client)
        assert failed.value.response.headers["retry-after"] == "7"

    def test_the_platforms_rate_limit_is_a_rate_limit_error(self, url: str, org: Caller) -> None:
        with db.tenant(org) as tx:
            _, secret = identity.create_key(
                tx, org, name="r", scopes=None, expires_at=None, metadata={}, rate_limit_per_minute=1
            )
        with (
            OpenAI(base_url=url, api_key=secret.text, max_retries=0) as client,
            pytest.raises(openai.RateLimitError) as failed,
        ):
            all(ask(client) for _ in range(20))
        assert failed.value.code == "rate_limited"
        assert int(failed.value.response.headers["retry-after"]) > 0
        assert failed.value.response.headers["x-ratelimit-remaining-requests"] == "0"

    def test_a_failing_provider_is_an_internal_server_error(self, client: OpenAI, provider: Provider) -> None:
        provider.fails(500, times=2)
        with pytest.raises(openai.InternalServerError) as failed:
            ask(client)
        assert (failed.value.status_code, failed.value.code) == (502, "provider_failed")

    def test_the_providers_refusal_is_a_bad_request_error_with_its_reason(
        self, client: OpenAI, provider: Provider
    ) -> None:
        provider.fails(400, message="Too long for me.", code="context_length_exceeded", param="messages")
        with pytest.raises(openai.BadRequestError, match="Too long for me") as failed:
            ask(client)
        assert failed.value.code == "context_length_exceeded"

    def test_the_clients_own_retry_gets_past_a_failure(self, url: str, api_key: str, provider: Provider) -> None:
        provider.fails(500)
        with OpenAI(base_url=url, api_key=api_key, max_retries=1) as client:
            assert ask(client)
        assert len(provider.asked) == 2

    def test_no_credits_is_a_402(self, client: OpenAI, org: Caller) -> None:
        with db.tenant(org) as tx:
            available = billing.balance(tx).available_microusd
            expires_at = clock.now() + timedelta(hours=1)
            billing.hold(tx, org, amount_microusd=available, source_id="all", expires_at=expires_at)
        with pytest.raises(openai.APIStatusError) as failed:
            ask(client)
        assert (failed.value.status_code, failed.value.code) == (402, "insufficient_credits")
