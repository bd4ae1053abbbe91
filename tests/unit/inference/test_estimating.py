"""What model calls are expected to cost, beside what is held for them."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.billing import service as billing
from shared.inference import estimating
from shared.inference.config import OrgConfig, ProviderAccount, ProviderKind
from shared.inference.model import ChatRequest, ModelNotFound, most_embedding_tokens
from shared.inference.policy import Candidate, Ensemble, Route
from shared.kernel import clock

MODEL = "gpt-5-mini"
EMBEDDER = "text-embedding-3-small"


@given(text=st.text(max_size=2_000), limit=st.none() | st.integers(1, 128_000))
def test_a_chat_is_expected_to_cost_no_more_than_is_held(text: str, limit: int | None) -> None:
    messages = [{"role": "user", "content": text}]
    found = estimating.of_chat(OrgConfig(), ChatRequest(messages=messages, model=MODEL, max_output_tokens=limit))
    assert 0 < found.expected_microusd <= found.p90_microusd == found.worst_microusd


@given(texts=st.lists(st.text(min_size=1, max_size=500), min_size=1, max_size=20))
def test_embeddings_are_expected_to_cost_no_more_than_is_held(texts: list[str]) -> None:
    found = estimating.of_embeddings(OrgConfig(), texts, model=EMBEDDER)
    most = billing.token_price(EMBEDDER, at=clock.now()).most(
        input_tokens=most_embedding_tokens(texts), output_tokens=0
    )
    assert found.expected_microusd <= found.p90_microusd == found.worst_microusd == most


def test_a_chat_is_worked_out_by_hand() -> None:
    # The message is {"role": "user", "content": "…"}, 32 bytes and 3,968 of text: 1,000 tokens at $0.25 for a million
    # are 250; an answer of 500 at $2 is 1,000.
    request = ChatRequest(messages=[{"role": "user", "content": "x" * (4_000 - 32)}], model=MODEL)
    assert estimating.of_chat(OrgConfig(), request).expected_microusd == 1_250
    # A request that takes no more than 100 tokens for an answer expects no more.
    short = ChatRequest(messages=request.messages, model=MODEL, max_output_tokens=100)
    assert estimating.of_chat(OrgConfig(), short).expected_microusd == 450


def test_tools_are_part_of_what_is_asked() -> None:
    messages = [{"role": "user", "content": "Why?"}]
    tool = {"type": "function", "function": {"name": "f", "description": "d" * 4_000}}
    plain = estimating.of_chat(OrgConfig(), ChatRequest(messages=messages, model=MODEL)).expected_microusd
    with_tool = estimating.of_chat(
        OrgConfig(), ChatRequest(messages=messages, model=MODEL, tools=[tool])
    ).expected_microusd
    assert 240 < with_tool - plain < 280


def test_what_is_not_offered_has_no_estimate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNYARD_MODEL", "runyard-offline")
    monkeypatch.setenv("RUNYARD_EMBEDDING_MODEL", "runyard-offline-embed")
    with pytest.raises(ModelNotFound):
        estimating.of_chat(OrgConfig(), ChatRequest(messages=[], model="no-such"))
    with pytest.raises(ModelNotFound):
        estimating.of_embeddings(OrgConfig(), ["a"], model="no-such")


def test_a_route_costs_what_its_first_candidate_costs_and_at_most_the_dearest() -> None:
    route = Route(name="support", candidates=[Candidate(model="gpt-5-nano"), Candidate(model="gpt-5")])
    config = OrgConfig(routes={"support": route})
    asked = ChatRequest(messages=[{"role": "user", "content": "x" * 4_000}], model="support", max_output_tokens=100)

    found = estimating.of_chat(config, asked)

    first, dearest = (estimating.of_chat(config, replace(asked, model=model)) for model in ("gpt-5-nano", "gpt-5"))
    assert (found.expected_microusd, found.worst_microusd) == (first.expected_microusd, dearest.worst_microusd)


def test_an_ensemble_costs_the_sum_of_its_calls_and_of_the_verdict() -> None:
    models = ("gpt-5-nano", "gpt-5")
    ensemble = Ensemble(n=2, judge="gpt-4.1-mini")
    route = Route(name="council", candidates=[Candidate(model=model) for model in models], ensemble=ensemble)
    config = OrgConfig(routes={"council": route})
    asked = ChatRequest(messages=[{"role": "user", "content": "x" * 4_000}], model="council", max_output_tokens=100)

    each = [estimating.of_chat(config, replace(asked, model=model)) for model in (*models, "gpt-4.1-mini")]

    assert estimating.of_chat(config, asked).worst_microusd == sum(one.worst_microusd for one in each)


def test_what_an_own_key_pays_costs_nothing() -> None:
    own = ProviderAccount(name="mine", kind=ProviderKind.OPENAI, own=True)
    asked = ChatRequest(messages=[{"role": "user", "content": "hello"}], model="mine/whatever")

    assert estimating.of_chat(OrgConfig(providers={"mine": own}), asked).worst_microusd == 0
