"""Events are the same however the bytes of a stream are cut."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.inference.errors import ProviderAnsweredWrongly
from shared.inference.providers.sse import LARGEST_EVENT, Events

STREAM = (
    b'data: {"a": 1}\n\n: a comment\n\nevent: x\nid: 7\ndata:{"b": 2}\r\n\r\n'
    b"data: one\ndata: two\n\n\n\ndata: [DONE]\n\n"
)
FOUND = [b'{"a": 1}', b'{"b": 2}', b"one\ntwo", b"[DONE]"]


@given(st.lists(st.integers(0, len(STREAM)), max_size=12))
def test_events_do_not_depend_on_how_the_bytes_come(cuts: list[int]) -> None:
    places = [0, *sorted(cuts), len(STREAM)]
    events = Events()
    found = [event for start, end in pairwise(places) for event in events.feed(STREAM[start:end])]
    assert found == FOUND
    assert events.rest() == []


def test_the_last_event_is_there_though_its_end_is_missing() -> None:
    events = Events()
    assert events.feed(b"data: [DONE]\n") == []
    assert events.rest() == [b"[DONE]"]


def test_an_event_is_given_as_soon_as_it_is_whole() -> None:
    events = Events()
    assert events.feed(b"data: a\n\ndata: b") == [b"a"]


@pytest.mark.parametrize("end", [b"", b"\n"], ids=["one line", "many lines"])
def test_an_event_that_never_ends_is_given_up(end: bytes) -> None:
    events = Events()
    piece = b"data: " + b"x" * 1_000 + end
    for _ in range(LARGEST_EVENT // len(piece)):
        events.feed(piece)
    with pytest.raises(ProviderAnsweredWrongly):
        events.feed(piece * 20)
