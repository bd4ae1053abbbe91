"""Chat completions of the offline model through the real client: plain, streamed, async, structured."""

import asyncio
import json
import time
from typing import Literal

import httpx
import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from openai.types.chat import ChatCompletionFunctionToolParam, ChatCompletionMessageParam
from pydantic import BaseModel, Field

from local.offline_model import tokens
from tests.waiting import takes_less_than

MODEL = "runyard-offline"
QUESTION = "What is the tallest mountain on the whole of this planet, and who climbed it first?"
MESSAGES: list[ChatCompletionMessageParam] = [{"role": "user", "content": QUESTION}]
TOOLS: list[ChatCompletionFunctionToolParam] = [
    {"type": "function", "function": {"name": name, "parameters": {"type": "object"}}}
    for name in ("sandbox_write_file", "sandbox_exec")
]


def test_without_tools_it_says_who_it_is_and_echoes_the_first_words(client: OpenAI) -> None:
    completion = client.chat.completions.create(model=MODEL, messages=MESSAGES)
    text = completion.choices[0].message.content

    assert text is not None
    assert '"What is the tallest mountain on the whole of this planet, and …"' in text
    assert "scripted offline model, runyard-offline: it is not a real model" in text
    assert completion.model == MODEL


def test_the_same_request_gets_the_same_answer(http: httpx.Client) -> None:
    body = {"model": MODEL, "messages": MESSAGES, "tools": TOOLS}
    first, second = (http.post("/v1/chat/completions", json=body).json() for _ in range(2))

    assert {**first, "created": 0} == {**second, "created": 0}
    assert first["choices"][0]["message"]["tool_calls"]


def test_an_answer_does_not_wait_for_a_delayed_acknowledgement(client: OpenAI) -> None:
    def seconds_of_one_call() -> float:
        started = time.perf_counter()
        client.chat.completions.create(model=MODEL, messages=MESSAGES)
        return time.perf_counter() - started

    # A delayed ACK costs 40 ms on every call.
    assert takes_less_than(0.035, seconds_of_one_call, tries=20)


def test_usage_follows_the_stated_rule(client: OpenAI) -> None:
    completion = client.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": "offline: say Hello, worlds!"}]
    )
    usage = completion.usage

    assert usage is not None
    # offl|ine|:|say|Hell|o|,|worl|ds|! and 3 for the message and 3 for the answer.
    assert usage.prompt_tokens == 9 + 1 + 3 + 3
    # Hell|o|,|worl|ds|!
    assert usage.completion_tokens == 6
    assert usage.total_tokens == 22


@pytest.mark.parametrize("limit", ["max_tokens", "max_completion_tokens"])
def test_an_output_limit_cuts_the_answer_and_says_so(client: OpenAI, limit: str) -> None:
    full = client.chat.completions.create(model=MODEL, messages=MESSAGES)
    cut = client.chat.completions.create(model=MODEL, messages=MESSAGES, **{limit: 5})  # type: ignore[call-overload]
    text = cut.choices[0].message.content

    assert cut.choices[0].finish_reason == "length"
    assert cut.usage.completion_tokens == 5
    assert tokens.count(text) == 5
    assert str(full.choices[0].message.content).startswith(text)


def test_an_output_limit_cuts_a_calls_arguments_too(http: httpx.Client) -> None:
    body = {"model": MODEL, "messages": MESSAGES, "tools": TOOLS, "max_tokens": 20}
    answer = http.post("/v1/chat/completions", json=body).json()
    [choice] = answer["choices"]

    assert choice["finish_reason"] == "length"
    assert answer["usage"]["completion_tokens"] == 20
    with pytest.raises(json.JSONDecodeError):
        json.loads(choice["message"]["tool_calls"][0]["function"]["arguments"])


def test_a_stream_carries_the_same_text_and_the_usage_when_asked(client: OpenAI) -> None:
    whole = client.chat.completions.create(model=MODEL, messages=MESSAGES)
    with client.chat.completions.create(
        model=MODEL, messages=MESSAGES, stream=True, stream_options={"include_usage": True}
    ) as stream:
        chunks = list(stream)

    deltas = [chunk.choices[0].delta for chunk in chunks if chunk.choices]
    assert deltas[0].role == "assistant"
    assert "".join(delta.content or "" for delta in deltas) == whole.choices[0].message.content
    assert sum(bool(delta.content) for delta in deltas) > 10
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].choices == []
    assert chunks[-1].usage == whole.usage
    assert all(chunk.usage is None for chunk in chunks[:-1])
    assert {chunk.id for chunk in chunks} == {whole.id}


def test_a_stream_has_no_usage_unless_asked_and_ends_with_done(http: httpx.Client) -> None:
    body = {"model": MODEL, "messages": MESSAGES, "stream": True}
    response = http.post("/v1/chat/completions", json=body)

    assert response.headers["content-type"].startswith("text/event-stream")
    assert '"usage"' not in response.text
    assert response.text.endswith("data: [DONE]\n\n")


def test_a_streamed_tool_call_is_put_together_to_the_same_call(client: OpenAI) -> None:
    whole = client.chat.completions.create(model=MODEL, messages=MESSAGES, tools=TOOLS)
    with client.chat.completions.stream(model=MODEL, messages=MESSAGES, tools=TOOLS) as stream:
        streamed = stream.get_final_completion()

    [call], [expected] = (
        streamed.choices[0].message.tool_calls or [],
        whole.choices[0].message.tool_calls or [],
    )
    assert call.id == expected.id
    assert call.type == expected.type == "function"
    assert call.function.name == "sandbox_write_file"
    assert call.function.arguments == expected.function.arguments
    assert json.loads(call.function.arguments)["path"] == "primes.py"


def test_the_async_client_streams_and_asks_many_things_at_once(offline_model_url: str) -> None:
    async def ask(client: AsyncOpenAI, number: int) -> str:
        stream = await client.chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": f"offline: say answer {number}"}], stream=True
        )
        async with stream:
            return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

    async def ask_all() -> list[str]:
        async with AsyncOpenAI(base_url=f"{offline_model_url}/v1", api_key="any", max_retries=0) as client:
            return await asyncio.gather(*(ask(client, number) for number in range(20)))

    assert asyncio.run(ask_all()) == [f"answer {number}" for number in range(20)]


class Place(BaseModel):
    kind: Literal["city", "sea"]
    name: str = Field(min_length=3)
    height_m: int = Field(gt=10, le=20)
    share: float = Field(gt=0, lt=1)
    tags: list[str] = Field(min_length=2)
    parent: "Place | None"
    code: int | str


def test_a_json_schema_is_answered_with_a_valid_instance(client: OpenAI) -> None:
    completion = client.chat.completions.parse(model=MODEL, messages=MESSAGES, response_format=Place)
    place = completion.choices[0].message.parsed

    assert place is not None
    assert place.parent is None
    assert len(place.tags) == 2


def test_a_schema_that_recurses_without_end_is_refused_in_time(client: OpenAI) -> None:
    node: dict[str, object] = {"type": "object", "properties": {}, "required": ["left", "right"]}
    node["properties"] = {"left": {"$ref": "#"}, "right": {"anyOf": [{"$ref": "#"}, {"$ref": "#"}]}}
    with pytest.raises(openai.BadRequestError, match="without end"):
        client.chat.completions.create(
            model=MODEL,
            messages=MESSAGES,
            response_format={"type": "json_schema", "json_schema": {"name": "node", "schema": node}},
        )


def test_the_json_object_format_is_answered_with_an_object(client: OpenAI) -> None:
    completion = client.chat.completions.create(model=MODEL, messages=MESSAGES, response_format={"type": "json_object"})

    assert json.loads(str(completion.choices[0].message.content))["model"] == MODEL
