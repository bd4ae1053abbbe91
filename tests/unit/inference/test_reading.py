"""A provider's answer is believed only when everything that is used of it is there."""

import json
from copy import deepcopy
from typing import Any

import pytest

from shared.inference import vectors
from shared.inference.calls import Tokens
from shared.inference.errors import ProviderAnsweredWrongly, ProviderRefused
from shared.inference.providers.reading import (
    read_chat,
    read_chunk,
    read_embeddings,
    read_json,
    read_models,
    write_json,
)

CHAT: dict[str, Any] = {
    "id": "chatcmpl-1",
    "created": 1,
    "model": "m",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "hello"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10},
}


def _usage(**usage: Any) -> dict[str, Any]:
    return {**deepcopy(CHAT), "usage": {**CHAT["usage"], **usage}}


def test_tokens_are_the_providers_and_their_parts_are_told() -> None:
    answer = _usage(
        prompt_tokens_details={"cached_tokens": 5, "cache_write_tokens": 1},
        completion_tokens_details={"reasoning_tokens": 2},
    )
    assert read_chat(answer).tokens == Tokens(input=7, cached=5, output=3, written=1, reasoning=2)


def test_parts_are_never_more_than_their_whole() -> None:
    answer = _usage(
        prompt_tokens_details={"cached_tokens": 5, "cache_write_tokens": 500},
        completion_tokens_details={"reasoning_tokens": 500},
    )
    assert read_chat(answer).tokens == Tokens(input=7, cached=5, output=3, written=2, reasoning=3)
    assert read_chat(_usage(prompt_tokens_details={"cached_tokens": 500})).tokens.cached == 7


@pytest.mark.parametrize("details", [None, {}, {"cached_tokens": None}])
def test_parts_that_are_not_told_are_none(details: object) -> None:
    assert read_chat(_usage(prompt_tokens_details=details)).tokens == Tokens(input=7, cached=0, output=3)


def test_fields_unknown_to_us_are_kept() -> None:
    assert read_chat({**CHAT, "service_tier": "default"}).body["service_tier"] == "default"


def test_what_postgres_cannot_hold_is_replaced() -> None:
    answer = deepcopy(CHAT)
    answer["choices"][0]["message"]["content"] = "a\x00b\ud800c"
    assert read_json(json.dumps(answer).encode())["choices"][0]["message"]["content"] == "a\ufffdb?c"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"sorry",
        b'{"a": ',
        b"\xff\xfe",
        b'{"a": NaN}',
        b'{"a": [1.5, -1e999]}',
        b'{"a": Infinity}',
        b"[" * 100_000,
        b'{"a": ' + b"9" * 5_000,
    ],
    ids=["nothing", "words", "cut off", "no utf-8", "nan", "too large", "infinity", "deep", "a long number"],
)
def test_what_is_no_json_is_refused(content: bytes) -> None:
    with pytest.raises(ProviderAnsweredWrongly):
        read_json(content)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("usage", None),
        ("usage", {"prompt_tokens": -1, "completion_tokens": 1}),
        ("usage", {"prompt_tokens": True, "completion_tokens": 1}),
        ("usage", {"prompt_tokens": 1.5, "completion_tokens": 1}),
        ("usage", {"prompt_tokens": 10**12, "completion_tokens": 1}),
        ("usage", {"completion_tokens": 1}),
        ("usage", {"prompt_tokens": 5, "prompt_tokens_details": {"cached_tokens": -1}}),
        ("choices", []),
        ("choices", [{"message": {"tool_calls": [{"id": "1", "function": {"name": "x"}}]}}]),
        ("choices", [{"message": {"content": ["a"]}}]),
        ("choices", [{"delta": {}}]),
        ("choices", [None]),
        ("id", None),
        ("model", None),
    ],
    ids=str,
)
def test_an_incomplete_completion_is_refused(place: str, value: object) -> None:
    with pytest.raises(ProviderAnsweredWrongly):
        read_chat({**CHAT, place: value})


@pytest.mark.parametrize("body", [None, [], "sorry", {"error": "x"}], ids=str)
def test_something_else_than_a_completion_is_refused(body: object) -> None:
    with pytest.raises(ProviderAnsweredWrongly):
        read_chat(body)
    with pytest.raises(ProviderAnsweredWrongly):
        read_chunk(body)
    with pytest.raises(ProviderAnsweredWrongly):
        read_models(body)


@pytest.mark.parametrize(
    ("delta", "text"),
    [
        ({"role": "assistant", "content": ""}, ""),
        ({"content": "hello"}, "hello"),
        ({"role": "assistant", "content": "hello"}, "hello"),
        ({"content": None, "refusal": "no"}, "no"),
        ({"reasoning_content": "hm"}, "hm"),
        ({"reasoning": "hm"}, "hm"),
        ({"tool_calls": [{"index": 0, "id": "c", "function": {"name": "run", "arguments": ""}}]}, "run"),
        ({"tool_calls": [{"index": 0, "function": {"arguments": '{"a"'}}]}, '{"a"'),
        ({}, ""),
    ],
    ids=["role", "content", "both", "refusal", "reasoning_content", "reasoning", "tool", "arguments", "end"],
)
def test_a_chunk_tells_what_was_generated(delta: dict[str, Any], text: str) -> None:
    chunk = read_chunk({"choices": [{"index": 0, "delta": delta, "finish_reason": None}]})
    assert (chunk.text, chunk.tokens) == (text, None)


def test_the_chunk_with_the_usage_tells_the_tokens() -> None:
    assert read_chunk({"choices": [], "usage": CHAT["usage"]}).tokens == Tokens(input=7, cached=0, output=3)


def _embeddings(*items: tuple[int, object]) -> dict[str, Any]:
    usage = {"prompt_tokens": 2, "total_tokens": 2}
    return {"data": [{"index": index, "embedding": given} for index, given in items], "usage": usage}


def test_vectors_come_in_the_texts_order_however_they_are_encoded() -> None:
    body = _embeddings((1, [0.5, 1.0]), (0, vectors.encode([0.25, -2.0])))
    assert read_embeddings(body, count=2) == (((0.25, -2.0), (0.5, 1.0)), Tokens(input=2, cached=0, output=0))


@pytest.mark.parametrize(
    "items",
    [
        [],
        [(0, [1.0])],
        [(0, [1.0]), (0, [1.0])],
        [(0, [1.0]), (2, [1.0])],
        [(0, [1.0]), (1, [1.0, 2.0])],
        [(0, [1.0]), (1, [0.0])],
        [(0, [1.0]), (1, [])],
        [(0, [1.0]), (1, ["a"])],
        [(0, [1.0]), (1, [float("nan")])],
        [(0, [1.0]), (1, "not base64!")],
        [(0, [1.0]), (1, "AAA=")],
        [(0, [1.0]), (1, None)],
    ],
    ids=str,
)
def test_missing_or_useless_vectors_are_refused(items: list[tuple[int, object]]) -> None:
    with pytest.raises(ProviderAnsweredWrongly):
        read_embeddings(_embeddings(*items), count=2)


@pytest.mark.parametrize("body", [{"a": float("nan")}, {"a": "\ud800"}], ids=["nan", "a lone surrogate"])
def test_a_request_that_json_cannot_hold_is_refused(body: dict[str, Any]) -> None:
    with pytest.raises(ProviderRefused):
        write_json(body)
