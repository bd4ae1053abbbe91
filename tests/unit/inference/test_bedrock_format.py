"""OpenAI's requests as Bedrock's Converse API takes them, and its answers as OpenAI's clients read them."""

import json
from typing import Any

import pytest
from botocore.session import get_session
from botocore.validate import ParamValidator

from shared.inference.calls import Tokens
from shared.inference.errors import NotServed, ProviderAnsweredWrongly
from shared.inference.providers.bedrock_answering import Reader, read_message
from shared.inference.providers.bedrock_asking import request
from shared.kernel.errors import InvalidRequest

CLAUDE, NOVA, LLAMA = "us.anthropic.claude-sonnet-4-6", "amazon.nova-pro-v1:0", "meta.llama3-70b-instruct-v1:0"
HELLO = {"role": "user", "content": "Hello"}
TOOL = {
    "type": "function",
    "function": {"name": "weather", "description": "Tells.", "parameters": {"type": "object"}, "strict": True},
}
LONG = "Be kind. " * 500
POINT = {"cachePoint": {"type": "default"}}


def asked(*messages: dict[str, Any], model: str = CLAUDE, **options: Any) -> dict[str, Any]:
    """Return the request, which botocore's own description of the API must allow."""
    body = {"messages": list(messages) or [HELLO], "max_completion_tokens": 2_000, **options}
    found = request(model, body)
    described = get_session().get_service_model("bedrock-runtime").operation_model("Converse")
    assert described.input_shape is not None
    report = ParamValidator().validate(found, described.input_shape)
    assert not report.has_errors(), report.generate_report()
    return found


def test_a_conversation_with_tools_and_images_is_translated() -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"at": "sea"}'}}
    image = {"type": "image_url", "image_url": {"url": "data:image/jpg;base64,aGk="}}
    found = asked(
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Here?"}, image]},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": ""},
        tools=[TOOL],
        temperature=1.5,
        top_p=0.9,
        stop="END",
        top_k=5,
    )
    assert found == {
        "modelId": CLAUDE,
        "system": [{"text": "Be brief."}],
        "messages": [
            {"role": "user", "content": [{"text": "Here?"}, {"image": {"format": "jpeg", "source": {"bytes": b"hi"}}}]},
            {
                "role": "assistant",
                "content": [{"toolUse": {"toolUseId": "call_1", "name": "weather", "input": {"at": "sea"}}}],
            },
            {
                "role": "user",
                "content": [{"toolResult": {"toolUseId": "call_1", "content": [{"text": "(nothing)"}]}}],
            },
        ],
        "inferenceConfig": {"maxTokens": 2_000, "temperature": 1, "topP": 0.9, "stopSequences": ["END"]},
        "toolConfig": {
            "tools": [
                {
                    "toolSpec": {
                        "name": "weather",
                        "description": "Tells.",
                        "inputSchema": {"json": {"type": "object"}},
                        "strict": True,
                    }
                }
            ],
            "toolChoice": {"auto": {}},
        },
        "additionalModelRequestFields": {"top_k": 5},
    }


def test_the_choice_of_tools_is_translated() -> None:
    named = {"type": "function", "function": {"name": "weather"}}
    assert asked(tools=[TOOL], tool_choice="required")["toolConfig"]["toolChoice"] == {"any": {}}
    assert asked(tools=[TOOL], tool_choice=named)["toolConfig"]["toolChoice"] == {"tool": {"name": "weather"}}
    assert "toolConfig" not in asked(tools=[TOOL], tool_choice="none")
    # Bedrock refuses a conversation with calls and without their tools.
    result = {"role": "tool", "tool_call_id": "c", "content": "Rain"}
    assert "toolConfig" in asked(HELLO, result, tools=[TOOL], tool_choice="none")


def test_a_json_schema_is_the_providers_structured_output() -> None:
    asked_for = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}}
    found = asked(response_format=asked_for, reasoning_effort="high")["outputConfig"]
    assert json.loads(found["textFormat"]["structure"]["jsonSchema"]["schema"]) == {"type": "object"}
    assert found["effort"] == "high"


def test_claude_thinks_here_as_there() -> None:
    found = asked(reasoning_effort="low", temperature=0.2)
    assert found["additionalModelRequestFields"] == {"thinking": {"type": "adaptive"}}
    assert found["inferenceConfig"] == {"maxTokens": 2_000}
    old = asked(model="anthropic.claude-haiku-4-5-20251001-v1:0", reasoning_effort="low")
    assert old["additionalModelRequestFields"] == {"thinking": {"type": "enabled", "budget_tokens": 1_999}}
    assert asked(reasoning_effort="none", temperature=0.2)["inferenceConfig"]["temperature"] == 0.2
    with pytest.raises(NotServed):
        asked(model=NOVA, reasoning_effort="low")


@pytest.mark.parametrize(
    ("model", "tools", "others"), [(CLAUDE, True, True), (NOVA, False, True), (LLAMA, False, False)]
)
def test_the_stable_beginning_is_marked_where_the_model_has_a_cache(model: str, tools: bool, others: bool) -> None:
    system, said = {"role": "system", "content": LONG}, {"role": "assistant", "content": "Hi"}
    found = asked(system, HELLO, said, HELLO, tools=[TOOL], model=model)
    assert (POINT in found["toolConfig"]["tools"]) is tools
    assert (POINT in found["system"]) is others
    assert [POINT in turn["content"] for turn in found["messages"]] == [False, others, False]


def test_a_short_prompt_is_not_marked() -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "aGkh" * 5_000}}
    said = {"role": "assistant", "content": "Hi"}
    assert "cachePoint" not in repr(asked({"role": "user", "content": [image]}, said, HELLO))


@pytest.mark.parametrize(
    "url", ["https://example.com/a.png", "data:image/tiff;base64,aGk="], ids=["an address", "another format"]
)
def test_images_are_taken_as_data_alone(url: str) -> None:
    with pytest.raises(NotServed):
        asked({"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]})


def test_an_image_that_is_no_base64_is_refused() -> None:
    with pytest.raises(InvalidRequest):
        asked({"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,?"}}]})


ANSWER: dict[str, Any] = {
    "output": {"message": {"role": "assistant", "content": [{"text": "It rains."}]}},
    "stopReason": "end_turn",
    "usage": {
        "inputTokens": 5,
        "outputTokens": 4,
        "totalTokens": 14,
        "cacheReadInputTokens": 3,
        "cacheWriteInputTokens": 2,
    },
}


def test_an_answer_is_a_completion() -> None:
    content = [
        {"reasoningContent": {"reasoningText": {"text": "Hm.", "signature": "x"}}},
        {"reasoningContent": {"redactedContent": b"x"}},
        {"text": "It rains."},
        {"toolUse": {"toolUseId": "t", "name": "weather", "input": {"at": "sea"}}},
    ]
    output = {"message": {"role": "assistant", "content": content}}
    found = read_message({**ANSWER, "output": output, "stopReason": "tool_use"}, call_id="c", model="m")
    assert found.tokens == Tokens(input=10, cached=3, output=4, written=2)
    assert found.body["choices"] == [
        {
            "index": 0,
            "message": {
                "role": "assistant",
                "content": "It rains.",
                "refusal": None,
                "reasoning_content": "Hm.",
                "tool_calls": [
                    {"id": "t", "type": "function", "function": {"name": "weather", "arguments": '{"at": "sea"}'}}
                ],
            },
            "logprobs": None,
            "finish_reason": "tool_calls",
        }
    ]
    assert (found.body["id"], found.body["model"], found.body["usage"]["total_tokens"]) == ("c", "m", 14)


REASONS = {
    "end_turn": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "guardrail_intervened": "content_filter",
    "content_filtered": "content_filter",
    "something new": "stop",
}


@pytest.mark.parametrize(("reason", "told"), REASONS.items(), ids=REASONS.keys())
def test_why_an_answer_ended_is_told(reason: str, told: str) -> None:
    found = read_message({**ANSWER, "stopReason": reason}, call_id="c", model="m")
    assert found.body["choices"][0]["finish_reason"] == told


@pytest.mark.parametrize("changed", [{"usage": None}, {"usage": {"inputTokens": 1}}, {"output": {}}], ids=str)
def test_an_incomplete_answer_is_refused(changed: dict[str, Any]) -> None:
    with pytest.raises(ProviderAnsweredWrongly):
        read_message({**ANSWER, **changed}, call_id="c", model="m")


def test_a_stream_is_a_stream_of_chunks() -> None:
    reader = Reader(call_id="c", model="m")
    events: list[dict[str, Any]] = [
        {"messageStart": {"role": "assistant"}},
        {"contentBlockDelta": {"delta": {"reasoningContent": {"text": "Hm."}}, "contentBlockIndex": 0}},
        {"contentBlockDelta": {"delta": {"text": "It rains."}, "contentBlockIndex": 1}},
        {"contentBlockStop": {"contentBlockIndex": 1}},
        {"contentBlockStart": {"start": {"toolUse": {"toolUseId": "t", "name": "weather"}}, "contentBlockIndex": 2}},
        {"contentBlockDelta": {"delta": {"toolUse": {"input": '{"at": 1}'}}, "contentBlockIndex": 2}},
        {"contentBlockStop": {"contentBlockIndex": 2}},
        {"contentBlockStart": {"start": {"toolUse": {"toolUseId": "u", "name": "now"}}, "contentBlockIndex": 3}},
        {"contentBlockStop": {"contentBlockIndex": 3}},
        {"messageStop": {"stopReason": "tool_use"}},
    ]
    chunks = [chunk for event in events for chunk in reader.read(event)]
    done = reader.done
    [last] = reader.read({"metadata": {"usage": ANSWER["usage"], "metrics": {"latencyMs": 1}}})
    assert (done, reader.done) == (False, True)
    assert last.tokens == Tokens(input=10, cached=3, output=4, written=2)
    assert "".join(chunk.text for chunk in chunks) == 'Hm.It rains.weather{"at": 1}now{}'
    calls = [call for chunk in chunks for call in chunk.body["choices"][0]["delta"].get("tool_calls", ())]
    assert [call["index"] for call in calls] == [0, 0, 1, 1]
    assert chunks[-1].body["choices"][0]["finish_reason"] == "tool_calls"
