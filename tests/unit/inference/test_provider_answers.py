"""A provider's answer is believed only when everything that is used of it is there."""

from copy import deepcopy
from typing import Any

import pytest

from shared.inference import vectors
from shared.inference.model import ProviderAnsweredWrongly, Tokens
from shared.inference.provider_answers import read_chat, read_embeddings

CHAT: dict[str, Any] = {
    "id": "chatcmpl-1",
    "created": 1,
    "model": "m",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "hello"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10},
}


def test_tokens_are_the_providers_and_cached_ones_are_part_of_the_input() -> None:
    answer = deepcopy(CHAT)
    answer["usage"]["prompt_tokens_details"] = {"cached_tokens": 5}
    assert read_chat(answer)[1] == Tokens(input=7, cached=5, output=3)


def test_cached_tokens_are_never_more_than_the_input() -> None:
    answer = deepcopy(CHAT)
    answer["usage"]["prompt_tokens_details"] = {"cached_tokens": 500}
    assert read_chat(answer)[1].cached == 7


def test_fields_unknown_to_us_are_kept() -> None:
    assert read_chat({**CHAT, "service_tier": "default"})[0]["service_tier"] == "default"


def test_what_postgres_cannot_hold_is_replaced() -> None:
    answer = deepcopy(CHAT)
    answer["choices"][0]["message"]["content"] = "a\x00b\ud800c"
    assert read_chat(answer)[0]["choices"][0]["message"]["content"] == "a\ufffdb?c"


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("usage", None),
        ("usage", {"prompt_tokens": -1, "completion_tokens": 1, "total_tokens": 0}),
        ("choices", []),
        ("choices", [{"message": {"tool_calls": [{"id": "1", "function": {"name": "x"}}]}}]),
        ("id", None),
    ],
)
def test_an_incomplete_completion_is_refused(place: str, value: object) -> None:
    with pytest.raises(ProviderAnsweredWrongly):
        read_chat({**CHAT, place: value})


@pytest.mark.parametrize("body", [None, [], "sorry", {"error": "x"}])
def test_something_else_than_a_completion_is_refused(body: object) -> None:
    with pytest.raises(ProviderAnsweredWrongly):
        read_chat(body)


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
        [(0, [1.0]), (1, [1.0, 2.0])],
        [(0, [1.0]), (1, [0.0])],
        [(0, [1.0]), (1, [float("nan")])],
        [(0, [1.0]), (1, "not base64!")],
        [(0, [1.0]), (1, "AAA=")],
    ],
)
def test_missing_or_useless_vectors_are_refused(items: list[tuple[int, object]]) -> None:
    with pytest.raises(ProviderAnsweredWrongly):
        read_embeddings(_embeddings(*items), count=2)
