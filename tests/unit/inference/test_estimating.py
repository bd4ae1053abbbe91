"""What model calls are expected to cost, beside what is held for them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.billing import service as billing
from shared.inference import estimating
from shared.inference.model import ChatRequest, ModelNotFound, most_embedding_tokens
from shared.kernel import clock

MODEL = "gpt-5-mini"
EMBEDDER = "text-embedding-3-small"


@given(text=st.text(max_size=2_000), limit=st.none() | st.integers(1, 128_000))
def test_a_chat_is_expected_to_cost_no_more_than_is_held(text: str, limit: int | None) -> None:
    messages = [{"role": "user", "content": text}]
    found = estimating.estimate_chat(ChatRequest(messages=messages, model=MODEL, max_output_tokens=limit))
    assert 0 < found.expected_microusd <= found.p90_microusd == found.worst_microusd


@given(texts=st.lists(st.text(min_size=1, max_size=500), min_size=1, max_size=20))
def test_embeddings_are_expected_to_cost_no_more_than_is_held(texts: list[str]) -> None:
    found = estimating.estimate_embeddings(texts, model=EMBEDDER)
    most = billing.token_price(EMBEDDER, at=clock.now()).most(
        input_tokens=most_embedding_tokens(texts), output_tokens=0
    )
    assert found.expected_microusd <= found.p90_microusd == found.worst_microusd == most


def test_a_chat_is_worked_out_by_hand() -> None:
    # The message is {"role": "user", "content": "…"}, 32 bytes and 3,968 of text: 1,000 tokens at $0.25 for a million
    # are 250; an answer of 500 at $2 is 1,000.
    request = ChatRequest(messages=[{"role": "user", "content": "x" * (4_000 - 32)}], model=MODEL)
    assert estimating.estimate_chat(request).expected_microusd == 1_250
    # A request that takes no more than 100 tokens for an answer expects no more.
    short = ChatRequest(messages=request.messages, model=MODEL, max_output_tokens=100)
    assert estimating.estimate_chat(short).expected_microusd == 450


def test_tools_are_part_of_what_is_asked() -> None:
    messages = [{"role": "user", "content": "Why?"}]
    tool = {"type": "function", "function": {"name": "f", "description": "d" * 4_000}}
    plain = estimating.estimate_chat(ChatRequest(messages=messages, model=MODEL)).expected_microusd
    with_tool = estimating.estimate_chat(ChatRequest(messages=messages, model=MODEL, tools=[tool])).expected_microusd
    assert 240 < with_tool - plain < 280


def test_what_is_not_offered_has_no_estimate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNYARD_MODEL", "runyard-offline")
    monkeypatch.setenv("RUNYARD_EMBEDDING_MODEL", "runyard-offline-embed")
    with pytest.raises(ModelNotFound):
        estimating.estimate_chat(ChatRequest(messages=[], model="no-such"))
    with pytest.raises(ModelNotFound):
        estimating.estimate_embeddings(["a"], model="no-such")
