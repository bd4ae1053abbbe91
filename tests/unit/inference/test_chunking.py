"""A stream put together is the answer, and an answer taken apart is a stream of it."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from shared.inference import chunking
from shared.inference.answers import Chunk
from shared.inference.calls import Tokens
from shared.inference.chunking import Assembly

TOKENS = Tokens(input=10, cached=4, output=5, reasoning=2)
HEAD = {"id": "chatcmpl-1", "created": 1_700_000_000, "model": "gpt-5-mini"}


def chunk(
    delta: Mapping[str, Any], *, text: str = "", finish: str | None = None, tokens: Tokens | None = None
) -> Chunk:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return Chunk(body={**HEAD, "object": "chat.completion.chunk", "choices": [choice]}, text=text, tokens=tokens)


def assembled(*chunks: Chunk) -> Assembly:
    assembly = Assembly()
    for each in chunks:
        assembly.add(each)
    return assembly


def test_texts_are_joined_and_the_finish_reason_is_kept() -> None:
    assembly = assembled(
        chunk({"role": "assistant", "content": ""}),
        chunk({"content": "Hel"}, text="Hel"),
        chunk({"content": "lo"}, text="lo"),
        chunk({}, finish="stop", tokens=TOKENS),
    )

    assert assembly.answer(TOKENS) == {
        **HEAD,
        "object": "chat.completion",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"}],
        "usage": {
            "prompt_tokens": 10,
            "completion_tokens": 5,
            "total_tokens": 15,
            "prompt_tokens_details": {"cached_tokens": 4},
            "completion_tokens_details": {"reasoning_tokens": 2},
        },
    }
    assert assembly.tokens == TOKENS
    assert assembly.generated == "Hello"


def test_calls_of_tools_that_come_in_pieces_and_interleaved_are_put_together() -> None:
    first = {"index": 0, "id": "call_a", "type": "function", "function": {"name": "add", "arguments": '{"a"'}}
    second = {"index": 1, "id": "call_b", "type": "function", "function": {"name": "now", "arguments": ""}}
    assembly = assembled(
        chunk({"role": "assistant", "tool_calls": [first]}, text='add{"a"'),
        chunk({"tool_calls": [second]}, text="now"),
        chunk({"tool_calls": [{"index": 0, "function": {"arguments": ": 1}"}}]}, text=": 1}"),
        chunk({"tool_calls": [{"index": 1, "function": {"arguments": "{}"}}]}, text="{}"),
        chunk({}, finish="tool_calls"),
    )

    message = assembly.answer(TOKENS)["choices"][0]["message"]
    assert message["tool_calls"] == [
        {"id": "call_a", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}},
        {"id": "call_b", "type": "function", "function": {"name": "now", "arguments": "{}"}},
    ]
    assert message["content"] is None
    assert assembly.generated == 'add{"a"now: 1}{}'
    assert assembly.tokens is None


def test_what_only_some_providers_send_is_not_lost() -> None:
    assembly = assembled(
        chunk({"reasoning_content": "Let me "}, text="Let me "),
        chunk({"reasoning_content": "see."}, text="see."),
        chunk({"content": "42", "annotations": [{"type": "url_citation"}]}, text="42"),
    )

    message = assembly.answer(TOKENS)["choices"][0]["message"]
    assert (message["reasoning_content"], message["content"]) == ("Let me see.", "42")
    assert message["annotations"] == [{"type": "url_citation"}]


@pytest.mark.parametrize(
    "message",
    [
        {"role": "assistant", "content": "Hello"},
        {"role": "assistant", "content": None, "refusal": "No."},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "call_a", "type": "function", "function": {"name": "add", "arguments": "{}"}}],
        },
    ],
    ids=["text", "refusal", "tool call"],
)
def test_an_answer_taken_apart_comes_together_again(message: dict[str, Any]) -> None:
    answer = {
        **HEAD,
        "object": "chat.completion",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": chunking.usage_of(TOKENS),
    }

    texts = list(chunking.chunks_of(answer))
    again = assembled(*(Chunk(body=json.loads(text)) for text in texts)).answer(TOKENS)

    assert again == answer
    assert all(json.loads(text)["object"] == "chat.completion.chunk" for text in texts)


def test_the_usage_chunk_tells_the_answers_usage_and_what_was_charged() -> None:
    told = json.loads(chunking.usage_chunk({**HEAD, "usage": chunking.usage_of(TOKENS)}, cost_microusd=7))

    assert told["choices"] == []
    assert told["id"] == HEAD["id"]
    assert (told["usage"]["total_tokens"], told["usage"]["cost_microusd"]) == (15, 7)
