"""What may be remembered, and how a long text becomes one vector."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.kernel.errors import InvalidRequest
from shared.memory.model import (
    DIMENSIONS,
    MAX_CONTENT_BYTES,
    Draft,
    EmbeddingUnfit,
    MemoryTooLarge,
    check_query,
    combined,
    pieces,
)


@pytest.mark.parametrize("content", ["", " \n\t ", "a\x00b", "a\ud800b"])
def test_a_text_that_is_empty_or_unstorable_is_refused(content: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        Draft(content=content, subject="s")
    assert refused.value.param == "content"


def test_the_limit_counts_bytes_and_is_named() -> None:
    Draft(content="é" * (MAX_CONTENT_BYTES // 2), subject="s")
    with pytest.raises(MemoryTooLarge, match=str(MAX_CONTENT_BYTES)):
        Draft(content="é" * (MAX_CONTENT_BYTES // 2 + 1), subject="s")


@pytest.mark.parametrize("importance", [-0.1, 1.1, math.nan, math.inf])
def test_importance_runs_from_0_to_1(importance: float) -> None:
    with pytest.raises(InvalidRequest):
        Draft(content="c", subject="s", importance=importance)


@pytest.mark.parametrize("tags", [("t",) * 10_000, ("t" * 65,), ("",)])
def test_tags_are_few_short_and_not_empty(tags: tuple[str, ...]) -> None:
    with pytest.raises(InvalidRequest) as refused:
        Draft(content="c", subject="s", tags=tags)
    assert refused.value.param == "tags"


@pytest.mark.parametrize("k", [0, -1, 10_000])
def test_k_has_bounds(k: int) -> None:
    with pytest.raises(InvalidRequest) as refused:
        check_query("q", k=k)
    assert refused.value.param == "k"


@given(st.text(st.characters(codec="utf-8"), min_size=1).map(lambda text: text * 500))
def test_pieces_join_to_the_text_and_fit_an_embedding_model(text: str) -> None:
    found = pieces(text)
    assert "".join(found) == text
    assert all(0 < len(piece.encode()) <= 8_000 for piece in found)


def _unit(place: int) -> tuple[float, ...]:
    return tuple(1.0 if at == place else 0.0 for at in range(DIMENSIONS))


def test_pieces_weigh_by_their_length_in_the_common_vector() -> None:
    vector = combined([_unit(0), _unit(1)], ["aaa", "b"])
    assert math.isclose(math.hypot(*vector), 1)
    assert math.isclose(vector[0], 3 * vector[1])


def test_pieces_that_cancel_out_still_have_a_direction() -> None:
    opposite = tuple(-value for value in _unit(0))
    assert combined([_unit(0), opposite], ["a", "b"]) == _unit(0)


def test_vectors_of_another_length_are_refused_with_both_lengths() -> None:
    with pytest.raises(EmbeddingUnfit, match="1536 numbers and memories have 384"):
        combined([(0.1,) * 1536], ["a"])
