"""Advice on spending less: what it saves, and that there is none where nothing is saved."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.billing import service
from shared.billing.advice import AdviceKind, SandboxTime, TokensUsed, advise

PRICES = service.prices_at(datetime(2026, 6, 1, tzinfo=UTC))
NONE = SandboxTime(0, 0, 0, 0)


def test_the_next_cheaper_model_of_the_family_is_advised_with_what_these_tokens_would_have_cost() -> None:
    # gpt-5: 1 M x $1.25 + 1 M x $0.125 + 0.1 M x $10 = $2.375; gpt-5-mini: $0.25 + $0.025 + $0.2 = $0.475.
    used = TokensUsed("gpt-5", fresh=1_000_000, cached=1_000_000, output=100_000)
    (advice,) = advise(PRICES, [used], NONE)
    assert (advice.kind, advice.subject, advice.saves_microusd) == (AdviceKind.CHEAPER_MODEL, "gpt-5", 1_900_000)
    assert "gpt-5-mini" in advice.what
    assert "Quality isn't compared" in advice.what
    assert "$0.475000 instead of $2.375000" in advice.basis


@pytest.mark.parametrize("model", ["gpt-5-nano", "gpt-4.1-nano", "gpt-4o-mini"])
def test_the_cheapest_model_of_a_family_has_no_cheaper_one(model: str) -> None:
    assert advise(PRICES, [TokensUsed(model, cached=10**6, output=10**6)], NONE) == []


@pytest.mark.parametrize("model", ["unlisted", "text-embedding-3-large", "of-the-operator", ""])
def test_a_model_without_family_or_price_has_no_cheaper_one(model: str) -> None:
    assert advise(PRICES, [TokensUsed(model, cached=10**9, output=10**9)], NONE) == []


def test_caching_is_advised_where_little_is_cached() -> None:
    # Half of 1,000,000 less the 100,000 that were: 400,000 x ($0.05 - $0.005) / 1 M.
    (advice,) = advise(PRICES, [TokensUsed("gpt-5-nano", fresh=900_000, cached=100_000)], NONE)
    assert (advice.kind, advice.subject, advice.saves_microusd) == (AdviceKind.PROMPT_CACHING, "gpt-5-nano", 18_000)
    assert "100000 of the 1000000 input tokens" in advice.basis


@pytest.mark.parametrize(
    ("model", "fresh", "cached"),
    [
        ("gpt-5-nano", 800_000, 200_000),  # a fifth was
        ("gpt-5-nano", 0, 0),
        ("gpt-5-nano", 20, 0),  # 10 x $0.045 / M is nothing
        ("text-embedding-3-small", 10**9, 0),  # cached input costs as much
    ],
    ids=["well cached", "no input", "too little", "no difference"],
)
def test_caching_is_not_advised_where_it_saves_nothing(model: str, fresh: int, cached: int) -> None:
    assert advise(PRICES, [TokensUsed(model, fresh=fresh, cached=cached)], NONE) == []


def test_sandboxes_in_which_nothing_ran_are_told() -> None:
    (advice,) = advise(PRICES, [], SandboxTime(sandboxes=3, paid_s=1_000, busy_s=250, cost_microusd=2_000))
    assert (advice.kind, advice.subject, advice.saves_microusd) == (AdviceKind.IDLE_SANDBOXES, "sandboxes", 1_500)
    assert "paid for 1000 s" in advice.basis
    assert "for 750 s of that" in advice.basis


@pytest.mark.parametrize(
    "time",
    [SandboxTime(3, 1_000, 800, 2_000), SandboxTime(1, 10, 10, 5), SandboxTime(1, 10, 11, 5), SandboxTime(1, 10, 0, 0)],
    ids=["hardly idle", "busy", "busier than paid", "free"],
)
def test_sandboxes_that_are_used_are_not_told(time: SandboxTime) -> None:
    assert advise(PRICES, [], time) == []


tokens = st.builds(
    TokensUsed,
    st.sampled_from([*PRICES.models, "no-such-model"]),
    st.integers(0, 10**9),
    st.integers(0, 10**9),
    st.integers(0, 10**9),
)
times = st.builds(
    lambda paid, busy, cost: SandboxTime(1, paid, min(busy, paid), cost),
    st.integers(0, 10**6),
    st.integers(0, 10**6),
    st.integers(0, 10**9),
)


@given(st.lists(tokens, max_size=5, unique_by=lambda used: used.model), times)
def test_what_is_advised_saves_something_and_never_more_than_was_paid(
    used: list[TokensUsed], time: SandboxTime
) -> None:
    paid = {each.model: each.cost(PRICES.models[each.model]) for each in used if each.model in PRICES.models}
    paid["sandboxes"] = time.cost_microusd
    found = advise(PRICES, used, time)
    assert [each.saves_microusd for each in found] == sorted((each.saves_microusd for each in found), reverse=True)
    assert all(0 < each.saves_microusd <= paid[each.subject] for each in found)
