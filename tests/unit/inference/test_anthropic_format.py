"""OpenAI's requests as Anthropic's Messages API takes them, and its answers as OpenAI's clients read them."""

import json
from collections.abc import Sequence
from typing import Any

import pytest

from shared.inference.answers import Chunk
from shared.inference.calls import Tokens
from shared.inference.errors import (
    ContextTooLong,
    NotServed,
    ProviderAnsweredWrongly,
    ProviderRateLimited,
)
from shared.inference.providers.anthropic_answering import Reader, read_message
from shared.inference.providers.anthropic_asking import request
from shared.kernel.errors import InvalidRequest, ProviderFailed

MODEL = "claude-sonnet-4-6"
HELLO = {"role": "user", "content": "Hello"}
TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Tells the weather.",
        "parameters": {"type": "object", "properties": {"at": {"type": "string"}}},
        "strict": True,
    },
}
LONG = "Be kind. " * 500
MARK = {"type": "ephemeral"}


def asked(*messages: dict[str, Any], model: str = MODEL, **options: Any) -> dict[str, Any]:
    return request(
        model, {"model": "x", "messages": list(messages) or [HELLO], "max_completion_tokens": 100, **options}
    )


def test_a_conversation_with_tools_and_images_is_translated() -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"at": "sea"}'}}
    found = asked(
        {"role": "system", "content": "Be brief."},
        {"role": "developer", "content": [{"type": "text", "text": "Be kind."}]},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "What is it like here?"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo=", "detail": "low"}},
                {"type": "image_url", "image_url": {"url": "https://example.com/a.jpg"}},
            ],
        },
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "Rain"},
        {"role": "user", "content": "And there?"},
        tools=[TOOL],
    )
    assert found == {
        "model": MODEL,
        "max_tokens": 100,
        "system": [{"type": "text", "text": "Be brief."}, {"type": "text", "text": "Be kind."}],
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "What is it like here?"},
                    {
                        "type": "image",
                        "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="},
                    },
                    {"type": "image", "source": {"type": "url", "url": "https://example.com/a.jpg"}},
                ],
            },
            {
                "role": "assistant",
                "content": [{"type": "tool_use", "id": "call_1", "name": "weather", "input": {"at": "sea"}}],
            },
            {
                "role": "user",
                "content": [
                    {
                        "type": "tool_result",
                        "tool_use_id": "call_1",
                        "content": [{"type": "text", "text": "Rain"}],
                    },
                    {"type": "text", "text": "And there?"},
                ],
            },
        ],
        "tools": [
            {
                "name": "weather",
                "description": "Tells the weather.",
                "input_schema": TOOL["function"]["parameters"],  # type: ignore[index]
                "strict": True,
            }
        ],
        "tool_choice": {"type": "auto"},
    }


def test_empty_texts_are_left_out_and_wrong_arguments_are_shown() -> None:
    call = {"id": "c", "type": "function", "function": {"name": "weather", "arguments": '{"at": '}}
    found = asked(
        HELLO,
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c", "content": ""},
    )
    assert found["messages"][1]["content"] == [
        {"type": "tool_use", "id": "c", "name": "weather", "input": {"invalid": '{"at": '}}
    ]
    assert found["messages"][2]["content"] == [{"type": "tool_result", "tool_use_id": "c", "content": []}]


CHOICES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "auto": ({"tool_choice": "auto"}, {"type": "auto"}),
    "none": ({"tool_choice": "none", "parallel_tool_calls": False}, {"type": "none"}),
    "required": ({"tool_choice": "required"}, {"type": "any"}),
    "one": (
        {"tool_choice": {"type": "function", "function": {"name": "weather"}}},
        {"type": "tool", "name": "weather"},
    ),
    "one by one": ({"parallel_tool_calls": False}, {"type": "auto", "disable_parallel_tool_use": True}),
}


@pytest.mark.parametrize(("options", "choice"), CHOICES.values(), ids=CHOICES.keys())
def test_the_choice_of_tools_is_translated(options: dict[str, Any], choice: dict[str, Any]) -> None:
    assert asked(tools=[TOOL], **options)["tool_choice"] == choice


def test_parameters_are_translated() -> None:
    found = asked(
        temperature=0.5,
        top_p=0.9,
        stop="END",
        user="u-1",
        seed=7,
        n=1,
        metadata={"a": "b"},
        presence_penalty=0,
        top_k=5,
    )
    assert {name: value for name, value in found.items() if name not in ("model", "messages")} == {
        "max_tokens": 100,
        "temperature": 0.5,
        "top_p": 0.9,
        "stop_sequences": ["END"],
        "metadata": {"user_id": "u-1"},
        "top_k": 5,
    }
    assert asked(temperature=1.5)["temperature"] == 1
    assert not {"temperature", "top_p"} & asked(temperature=1, top_p=1).keys()
    assert asked(stop=["a", "b"])["stop_sequences"] == ["a", "b"]
    assert request(MODEL, {"messages": [HELLO]})["max_tokens"] == 4_096
    assert request(MODEL, {"messages": [HELLO], "max_tokens": 7})["max_tokens"] == 7


def test_a_json_schema_is_the_providers_structured_output() -> None:
    schema = {"type": "object", "properties": {}, "additionalProperties": False}
    asked_for = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema, "strict": True}}
    assert asked(response_format=asked_for)["output_config"] == {"format": {"type": "json_schema", "schema": schema}}
    assert "output_config" not in asked(response_format={"type": "text"})


THOUGHTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "new": ({"reasoning_effort": "high"}, {"thinking": {"type": "adaptive"}, "output_config": {"effort": "high"}}),
    "least": ({"reasoning_effort": "minimal"}, {"thinking": {"type": "adaptive"}, "output_config": {"effort": "low"}}),
    "none": ({"reasoning_effort": "none"}, {"thinking": {"type": "disabled"}}),
    "none where it cannot be": (
        {"reasoning_effort": "none", "model": "claude-opus-5-5"},
        {"output_config": {"effort": "low"}},
    ),
    "not asked": ({}, {}),
    "forced": ({"reasoning_effort": "high", "tools": [TOOL], "tool_choice": "required"}, {}),
    "old": (
        {"reasoning_effort": "medium", "model": "claude-haiku-4-5-20251001", "max_completion_tokens": 20_000},
        {"thinking": {"type": "enabled", "budget_tokens": 8_192}},
    ),
    "old and short": (
        {"reasoning_effort": "high", "model": "claude-opus-4-20250514", "max_completion_tokens": 2_000},
        {"thinking": {"type": "enabled", "budget_tokens": 1_999}},
    ),
    "old and too short": ({"reasoning_effort": "high", "model": "claude-3-7-sonnet-20250219"}, {}),
}


@pytest.mark.parametrize(("options", "thought"), THOUGHTS.values(), ids=THOUGHTS.keys())
def test_reasoning_is_asked_for_as_the_model_knows_it(options: dict[str, Any], thought: dict[str, Any]) -> None:
    found = asked(**options)
    assert {name: found[name] for name in ("thinking", "output_config") if name in found} == thought


def test_a_thinking_model_is_told_no_temperature() -> None:
    assert "temperature" not in asked(reasoning_effort="low", temperature=0.2)
    assert asked(reasoning_effort="none", temperature=0.2)["temperature"] == 0.2


def test_an_old_model_in_the_middle_of_calls_does_not_think() -> None:
    call = {"id": "c", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
    said = {"role": "assistant", "content": "", "tool_calls": [call]}
    result = {"role": "tool", "tool_call_id": "c", "content": "Rain"}
    options = {"reasoning_effort": "high", "max_completion_tokens": 9_000}
    assert "thinking" not in asked(HELLO, said, result, model="claude-haiku-4-5", **options)
    assert "thinking" in asked(HELLO, said, result, model="claude-opus-5", **options)


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"frequency_penalty": 0.5}, "frequency_penalty"),
        ({"logit_bias": {"1": 2}}, "logit_bias"),
        ({"logprobs": True}, "logprobs"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"tools": [{"type": "custom", "custom": {"name": "x"}}]}, "tools.0"),
        ({"tool_choice": {"type": "allowed_tools"}}, "tool_choice"),
        ({"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]}, "messages.0.content.0"),
        ({"messages": [{"role": "function", "name": "x", "content": "y"}]}, "messages.0.role"),
        ({"messages": [{"role": "assistant", "tool_calls": [{"type": "custom"}]}]}, "messages.0.tool_calls.0"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_has_no_counterpart_is_refused_by_name(options: dict[str, Any], param: str) -> None:
    with pytest.raises(NotServed) as raised:
        request(MODEL, {"messages": [HELLO], **options})
    assert raised.value.param == param


@pytest.mark.parametrize("url", ["data:image/png,abc", "data:text/plain;base64,abc", "data:image/png;base64,"])
def test_a_wrong_image_is_refused(url: str) -> None:
    with pytest.raises(InvalidRequest):
        asked({"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]})


def test_the_stable_beginning_is_marked_for_the_cache() -> None:
    system, said = {"role": "system", "content": LONG}, {"role": "assistant", "content": "Hi"}
    found = asked(system, HELLO, said, {"role": "user", "content": "And?"}, tools=[TOOL])
    assert found["tools"][-1]["cache_control"] == MARK
    assert found["system"][-1]["cache_control"] == MARK
    assert [turn["content"][-1].get("cache_control") for turn in found["messages"]] == [None, MARK, None]


def test_marks_are_the_same_when_the_conversation_goes_on() -> None:
    turns = [{"role": "system", "content": LONG}, HELLO, {"role": "assistant", "content": "Hi"}]
    first = asked(*turns, HELLO)
    later = asked(*turns, HELLO, {"role": "assistant", "content": "Hi"}, HELLO)
    for found in (first, later):
        for turn in found["messages"]:
            turn["content"][-1].pop("cache_control", None)
    assert (later["system"], later["messages"][:3]) == (first["system"], first["messages"])


def test_a_short_prompt_is_not_marked() -> None:
    found = asked({"role": "system", "content": "Be kind."}, HELLO, {"role": "assistant", "content": "Hi"}, HELLO)
    assert "cache_control" not in json.dumps(found)
    assert "cache_control" not in json.dumps(asked({"role": "user", "content": LONG}))


ANSWER: dict[str, Any] = {
    "id": "msg_1",
    "type": "message",
    "model": MODEL,
    "content": [{"type": "text", "text": "It "}, {"type": "text", "text": "rains."}],
    "stop_reason": "end_turn",
    "usage": {"input_tokens": 5, "cache_read_input_tokens": 3, "cache_creation_input_tokens": 2, "output_tokens": 4},
}


def test_an_answer_is_a_completion() -> None:
    found = read_message(ANSWER)
    assert found.tokens == Tokens(input=10, cached=3, output=4, written=2)
    created = found.body["created"]
    assert found.body == {
        "id": "msg_1",
        "object": "chat.completion",
        "created": created,
        "model": MODEL,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "It rains.", "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {
            "prompt_tokens": 10,
            "completion_tokens": 4,
            "total_tokens": 14,
            "prompt_tokens_details": {"cached_tokens": 3, "cache_write_tokens": 2},
            "completion_tokens_details": {"reasoning_tokens": 0},
        },
    }


def test_calls_and_thoughts_are_part_of_the_message() -> None:
    content = [
        {"type": "thinking", "thinking": "Hm.", "signature": "x"},
        {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"at": "See\x00"}},
        {"type": "server_tool_use", "id": "other"},
    ]
    message = read_message({**ANSWER, "content": content, "stop_reason": "tool_use"}).body["choices"][0]
    assert message["finish_reason"] == "tool_calls"
    assert message["message"]["content"] is None
    assert message["message"]["reasoning_content"] == "Hm."
    [call] = message["message"]["tool_calls"]
    assert call["id"] == "toolu_1"
    assert json.loads(call["function"]["arguments"]) == {"at": "See\x00"}
    assert "\x00" not in call["function"]["arguments"]


REASONS = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
    "something new": "stop",
}


@pytest.mark.parametrize(("reason", "told"), REASONS.items(), ids=REASONS.keys())
def test_why_an_answer_ended_is_told(reason: str, told: str) -> None:
    assert read_message({**ANSWER, "stop_reason": reason}).body["choices"][0]["finish_reason"] == told


@pytest.mark.parametrize(
    "changed",
    [
        {"usage": None},
        {"usage": {"input_tokens": 1}},
        {"usage": {"output_tokens": 1}},
        {"usage": {"input_tokens": -1, "output_tokens": 1}},
        {"content": None},
        {"content": [None]},
        {"content": [{"text": "a"}]},
        {"content": [{"type": "text", "text": 5}]},
        {"content": [{"type": "tool_use", "id": "a", "name": "b", "input": "c"}]},
        {"id": None},
    ],
    ids=str,
)
def test_an_incomplete_answer_is_refused(changed: dict[str, Any]) -> None:
    with pytest.raises(ProviderAnsweredWrongly):
        read_message({**ANSWER, **changed})


def _read(*events: dict[str, Any]) -> tuple[list[Chunk], Reader]:
    reader = Reader("sk-canary")
    found: list[Sequence[Chunk]] = [reader.read(json.dumps(event).encode()) for event in events]
    return [chunk for chunks in found for chunk in chunks], reader


START = {"type": "message_start", "message": {**ANSWER, "content": []}}


def _delta(kind: str, **delta: Any) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": 0, "delta": {"type": kind, **delta}}


def test_a_stream_is_a_stream_of_chunks() -> None:
    use = {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {}}
    other = {"type": "tool_use", "id": "toolu_2", "name": "now", "input": {}}
    chunks, reader = _read(
        START,
        {"type": "ping"},
        _delta("thinking_delta", thinking="Hm."),
        _delta("signature_delta", signature="x"),
        _delta("text_delta", text="It rains."),
        {"type": "content_block_start", "index": 1, "content_block": use},
        _delta("input_json_delta", partial_json=""),
        _delta("input_json_delta", partial_json='{"at": "sea"}'),
        {"type": "content_block_stop", "index": 1},
        {"type": "content_block_start", "index": 2, "content_block": other},
        {"type": "content_block_stop", "index": 2},
        {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 40}},
        {"type": "message_stop"},
        _delta("text_delta", text="too late"),
    )
    choices = [chunk.body["choices"][0] for chunk in chunks[:-1]]
    assert [choice["delta"] for choice in choices] == [
        {"role": "assistant", "content": ""},
        {"reasoning_content": "Hm."},
        {"content": "It rains."},
        {
            "tool_calls": [
                {"index": 0, "id": "toolu_1", "type": "function", "function": {"name": "weather", "arguments": ""}}
            ]
        },
        {"tool_calls": [{"index": 0, "function": {"arguments": '{"at": "sea"}'}}]},
        {
            "tool_calls": [
                {"index": 1, "id": "toolu_2", "type": "function", "function": {"name": "now", "arguments": ""}}
            ]
        },
        {"tool_calls": [{"index": 1, "function": {"arguments": "{}"}}]},
        {},
    ]
    assert [choice["finish_reason"] for choice in choices] == [None] * 7 + ["tool_calls"]
    assert {(chunk.body["id"], chunk.body["model"], chunk.body["object"]) for chunk in chunks} == {
        ("msg_1", MODEL, "chat.completion.chunk")
    }
    assert "".join(chunk.text for chunk in chunks) == 'Hm.It rains.weather{"at": "sea"}now{}'
    assert chunks[-1].tokens == Tokens(input=10, cached=3, output=40, written=2)
    assert chunks[-1].body["choices"] == []
    assert reader.is_whole()


def test_a_stream_without_its_last_event_is_not_whole() -> None:
    _, reader = _read(START, _delta("text_delta", text="a"))
    assert not reader.is_whole()


@pytest.mark.parametrize(
    ("said", "error"),
    [
        ({"type": "overloaded_error", "message": "Overloaded"}, ProviderFailed),
        ({"type": "rate_limit_error", "message": "No"}, ProviderRateLimited),
        ({"type": "invalid_request_error", "message": "prompt is too long: 2 > 1"}, ContextTooLong),
    ],
    ids=["overloaded", "rate", "too long"],
)
def test_errors_in_a_stream_are_told(said: dict[str, str], error: type[Exception]) -> None:
    with pytest.raises(error):
        _read(START, {"type": "error", "error": said})


def test_what_is_no_event_is_refused() -> None:
    for event in ({}, {"type": "message_start", "message": {}}, _delta("text_delta", text="before the start")):
        with pytest.raises(ProviderAnsweredWrongly):
            _read(event)
