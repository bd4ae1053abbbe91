"""The server-sent events of streams: OpenAI's own, for both of its APIs."""

import json
from typing import Any

import pytest
from openai.types.responses import Response as OpenAIResponse
from openai.types.responses import ResponseStreamEvent
from pydantic import TypeAdapter

from shared.inference import chunking
from shared.inference.edge.chat import ChatFrames
from shared.inference.edge.responses_answers import Response
from shared.inference.edge.responses_events import ResponseFrames
from shared.inference.edge.responses_schemas import CreateResponse, ResponseOut
from tests.fake_gateway import ANSWER, CALL, HEAD, chunk

EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
USAGE = chunking.usage_chunk(ANSWER, cost_microusd=7)
CALLS = [
    chunk(role="assistant", content=None),
    chunk(content="Let me see."),
    chunk(tool_calls=[{"index": 0, "id": "c0", "type": "function", "function": {"name": "f", "arguments": ""}}]),
    chunk(tool_calls=[{"index": 0, "function": {"arguments": '{"a"'}}]),
    chunk(tool_calls=[{"index": 1, "id": "c1", "type": "function", "function": {"name": "g", "arguments": "{}"}}]),
    # Parallel calls may come by turns.
    chunk(tool_calls=[{"index": 0, "function": {"arguments": ": 1}"}}]),
    chunk("tool_calls"),
    USAGE,
]


def response(**asked: Any) -> Response:
    return Response(CreateResponse(input="x", **asked))


def told(frames: ResponseFrames, chunks: list[bytes]) -> list[dict[str, Any]]:
    return events(frames.opening() + b"".join(map(frames.chunk, chunks)) + frames.closing())


def events(raw: bytes) -> list[dict[str, Any]]:
    """Return the data of each event, which is one of OpenAI's and named as it names itself."""
    found = []
    for block in raw.decode().split("\n\n")[:-1]:
        name, data = block.split("\n")
        event = json.loads(data.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        EVENT.validate_python(event)
        found.append(event)
    assert [event["sequence_number"] for event in found] == list(range(len(found)))
    return found


def of_type(found: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [event for event in found if event["type"] == kind]


def test_a_chat_streams_chunks_as_they_are_and_ends_with_done() -> None:
    frames = ChatFrames(include_usage=False)
    assert frames.chunk(b'{"a":1}') == b'data: {"a":1}\n\n'
    assert frames.closing() == b"data: [DONE]\n\n"
    assert frames.failed({"error": {"code": "x"}}) == b'data: {"error":{"code":"x"}}\n\n'


@pytest.mark.parametrize("include_usage", [True, False])
def test_a_kept_chat_is_replayed_as_chunks_with_its_usage_if_that_was_asked_for(include_usage: bool) -> None:
    frames = ChatFrames(include_usage=include_usage)
    *blocks, done, rest = frames.replay(frames.kept(CALL)).decode().split("\n\n")
    chunks = [json.loads(block.removeprefix("data: ")) for block in blocks]

    assert (done, rest) == ("data: [DONE]", "")
    text = "".join(choice["delta"].get("content") or "" for one in chunks for choice in one["choices"])
    assert text == "Hello you."
    assert [one["usage"]["cost_microusd"] for one in chunks if one.get("usage")] == [7] * include_usage


def test_a_responses_text_begins_grows_and_ends() -> None:
    found = told(
        ResponseFrames(response(metadata={"k": "v"}, instructions="Be brief.")),
        [chunk(role="assistant", content=""), chunk(content="Hel"), chunk(content="lo"), chunk("stop"), USAGE],
    )
    assert [event["type"] for event in found] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert [event["delta"] for event in of_type(found, "response.output_text.delta")] == ["Hel", "lo"]
    ended = found[-1]["response"]
    OpenAIResponse.model_validate(ended)
    ResponseOut.model_validate(ended)
    assert ended["id"] == found[0]["response"]["id"]
    assert found[0]["response"]["status"] == "in_progress"
    assert (ended["status"], ended["metadata"], ended["instructions"]) == ("completed", {"k": "v"}, "Be brief.")
    assert ended["output"][0]["content"][0]["text"] == "Hello"
    assert ended["output"][0] == found[-2]["item"]
    assert ended["usage"] == {
        "input_tokens": 9,
        "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 0},
        "output_tokens": 3,
        "output_tokens_details": {"reasoning_tokens": 1},
        "total_tokens": 12,
        "cost_microusd": 7,
    }


def test_calls_that_come_by_turns_are_items_of_their_own_with_their_whole_arguments() -> None:
    found = told(ResponseFrames(response()), CALLS)

    said, first, second = found[-1]["response"]["output"]
    assert said["content"][0]["text"] == "Let me see."
    assert (first["call_id"], first["name"], first["arguments"]) == ("c0", "f", '{"a": 1}')
    assert (second["call_id"], second["name"], second["arguments"]) == ("c1", "g", "{}")
    done = of_type(found, "response.function_call_arguments.done")
    assert [(event["output_index"], event["arguments"]) for event in done] == [(1, '{"a": 1}'), (2, "{}")]
    pieces = of_type(found, "response.function_call_arguments.delta")
    assert [(event["output_index"], event["delta"]) for event in pieces] == [(1, '{"a"'), (2, "{}"), (1, ": 1}")]
    assert [event["item"]["status"] for event in of_type(found, "response.output_item.added")] == ["in_progress"] * 3


def test_a_refusal_is_a_part_of_its_own() -> None:
    found = told(ResponseFrames(response()), [chunk(content="Well. "), chunk(refusal="No."), chunk("stop"), USAGE])
    parts = found[-1]["response"]["output"][0]["content"]
    assert [part["type"] for part in parts] == ["output_text", "refusal"]
    assert parts[1]["refusal"] == "No."
    assert [event["content_index"] for event in of_type(found, "response.refusal.delta")] == [1]


@pytest.mark.parametrize(("reason", "told_as"), [("length", "max_output_tokens"), ("content_filter", "content_filter")])
def test_a_response_that_was_cut_short_is_incomplete(reason: str, told_as: str) -> None:
    found = told(ResponseFrames(response()), [chunk(content="He"), chunk(reason), USAGE])
    assert found[-1]["type"] == "response.incomplete"
    assert found[-1]["response"]["incomplete_details"] == {"reason": told_as}


def test_a_broken_response_ends_with_an_error_that_both_kinds_of_readers_find() -> None:
    frames = ResponseFrames(response())
    begun = frames.chunk(chunk(content="He"))
    error = {"code": "stream_broken", "message": "It broke.", "param": None, "type": "provider_error"}
    last = events(begun + frames.failed({"error": error}))[-1]
    assert (last["type"], last["code"], last["message"], last["error"]) == (
        "error",
        "stream_broken",
        "It broke.",
        error,
    )


@pytest.mark.parametrize("chunks", [CALLS, [chunk(content="He"), chunk(refusal="No."), chunk("length"), USAGE]])
def test_a_kept_response_is_replayed_to_the_same_end(chunks: list[bytes]) -> None:
    frames = ResponseFrames(response())
    first = told(frames, chunks)[-1]
    again = events(ResponseFrames(response()).replay(frames.kept(CALL)))
    assert again[-1]["response"] == first["response"]
    assert again[-1]["type"] == first["type"]
    items = [event["item"] for event in of_type(again, "response.output_item.done")]
    assert items == first["response"]["output"]


def test_a_whole_completion_is_a_response() -> None:
    asked = response(
        tools=[{"type": "function", "name": "f", "parameters": {}, "strict": True}],
        text={"format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}}},
        reasoning={"effort": "low"},
        temperature=0.5,
    )
    call = {"id": "c0", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    message = {"role": "assistant", "content": "Hello.", "refusal": None, "tool_calls": [call]}
    whole = asked.whole({**HEAD, "choices": [{"message": message, "finish_reason": "tool_calls"}], "usage": {}})

    OpenAIResponse.model_validate(whole)
    ResponseOut.model_validate(whole)
    assert [item["type"] for item in whole["output"]] == ["message", "function_call"]
    assert (whole["model"], whole["status"], whole["store"]) == ("m", "completed", False)
    assert whole["text"]["format"]["schema"] == {"type": "object"}
    assert (whole["reasoning"]["effort"], whole["temperature"]) == ("low", 0.5)
