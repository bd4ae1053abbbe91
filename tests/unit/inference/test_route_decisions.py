"""A route asks fit candidates only, in its order or by weight, and none whose breaker is open."""

import random
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.inference.config import ProviderAccount, ProviderKind, Target
from shared.inference.errors import NotServed, ProviderSuspended
from shared.inference.policy import BreakerState, Candidate, Conditions, Facts, Health, Route, Strategy
from shared.inference.routing import decide
from shared.inference.targets import OWN_KEY
from shared.kernel.errors import InvalidRequest

ACCOUNT = ProviderAccount(name="provider", kind=ProviderKind.OPENAI)
OPEN = Health(breaker=BreakerState.OPEN, retry_in_s=7.2)
HALF_OPEN = Health(breaker=BreakerState.HALF_OPEN)


def target(model: str) -> Target:
    return Target(account=ACCOUNT, model=model, shown_as=model, price=OWN_KEY)


def route(*candidates: Candidate, **changes: Any) -> Route:
    return replace(Route(name="r", candidates=candidates), **changes)


def decided(asked: Route, facts: Facts = Facts(), health: dict[str, Health] | None = None, seed: int = 0) -> list[str]:
    targets = {each.model: target(each.model) for each in asked.candidates if each.model != "gone"}
    known = {target(name).key: found for name, found in (health or {}).items()}
    return [found.model for found in decide(asked, facts, known, targets, rng=random.Random(seed))]


A, B, C = (Candidate(model=name) for name in "abc")


def test_candidates_are_asked_in_their_order() -> None:
    assert decided(route(A, B, C)) == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("when", "facts", "fits"),
    [
        (Conditions(tasks=frozenset({"code"})), Facts(task="code"), True),
        (Conditions(tasks=frozenset({"code"})), Facts(task="prose"), False),
        (Conditions(tasks=frozenset({"code"})), Facts(), False),
        (Conditions(max_input_tokens=10), Facts(input_tokens=10), True),
        (Conditions(max_input_tokens=10), Facts(input_tokens=11), False),
        (Conditions(min_input_tokens=10), Facts(input_tokens=10), True),
        (Conditions(min_input_tokens=10), Facts(input_tokens=9), False),
        (Conditions(tools=True), Facts(tools=True), True),
        (Conditions(tools=True), Facts(), False),
        (Conditions(tools=False), Facts(tools=True), False),
        (Conditions(images=True), Facts(images=True), True),
        (Conditions(images=True), Facts(), False),
        (Conditions(images=False), Facts(images=True), False),
        (Conditions(max_price_microusd=5), Facts(prices={"a": 5}), True),
        (Conditions(max_price_microusd=5), Facts(prices={"a": 6}), False),
        (Conditions(max_latency_ms=200), Facts(), True),
        (Conditions(max_latency_ms=199), Facts(), False),
    ],
    ids=lambda value: str(value).replace("shared.inference.policy.", "")[:40] if not isinstance(value, bool) else value,
)
def test_a_candidate_is_asked_only_when_its_conditions_hold(when: Conditions, facts: Facts, fits: bool) -> None:
    health = {"a": Health(first_token_ms=200)}
    assert decided(route(replace(A, when=when), B), facts, health) == (["a", "b"] if fits else ["b"])


def test_a_latency_that_nobody_knows_yet_is_no_hindrance() -> None:
    assert decided(route(replace(A, when=Conditions(max_latency_ms=1)))) == ["a"]


def test_when_no_candidate_is_fit_the_error_says_of_each_why() -> None:
    asked = route(
        replace(A, when=Conditions(tools=False)),
        replace(B, when=Conditions(max_input_tokens=10)),
        Candidate(model="gone"),
    )
    with pytest.raises(NotServed) as refused:
        decided(asked, Facts(tools=True, input_tokens=11))
    for why in ("a is for requests without tools", "b is for prompts up to 10 tokens", "gone is not offered"):
        assert why in refused.value.message


def test_an_open_breaker_leaves_its_candidate_out_and_a_half_open_one_does_not() -> None:
    assert decided(route(A, B, C), health={"a": OPEN, "b": HALF_OPEN}) == ["b", "c"]


def test_when_all_are_suspended_the_first_to_be_tried_again_tells_when() -> None:
    with pytest.raises(ProviderSuspended) as refused:
        decided(route(A, B), health={"a": OPEN, "b": replace(OPEN, retry_in_s=2.1)})
    assert refused.value.retry_after_s == 3


def test_what_is_suspended_is_told_rather_than_what_is_unfit() -> None:
    with pytest.raises(ProviderSuspended):
        decided(route(replace(A, when=Conditions(tools=True)), B), health={"b": OPEN})


def test_nobody_is_asked_twice_and_other_conditions_give_a_second_chance() -> None:
    for_code = replace(A, when=Conditions(tasks=frozenset({"code"})), timeout_s=5)
    targets = {"a": target("a"), "b": target("b")}
    found = decide(route(for_code, B, A, A), Facts(), {}, targets)
    assert [(each.model, each.timeout_s) for each in found] == [("b", None), ("a", None)]
    found = decide(route(for_code, B, A), Facts(task="code"), {}, targets)
    assert [(each.model, each.timeout_s) for each in found] == [("a", 5), ("b", None)]


def test_weights_draw_the_first_and_the_rest_follow_in_their_order() -> None:
    asked = route(replace(A, weight=1), replace(B, weight=3), replace(C, weight=0), strategy=Strategy.WEIGHTED)
    orders = Counter("".join(decided(asked, seed=seed)) for seed in range(4_000))
    assert orders.keys() == {"abc", "bac"}
    assert orders["bac"] / orders.total() == pytest.approx(0.75, abs=0.03)


def test_weights_count_among_those_that_can_be_asked() -> None:
    asked = route(replace(A, weight=1000), replace(B, weight=1), replace(C, weight=0), strategy=Strategy.WEIGHTED)
    assert decided(asked, health={"a": OPEN}) == ["b", "c"]
    assert decided(asked, health={"a": OPEN, "b": OPEN}) == ["c"]


def test_without_any_weight_the_order_stands() -> None:
    asked = route(replace(A, weight=0), replace(B, weight=0), strategy=Strategy.WEIGHTED)
    assert {tuple(decided(asked, seed=seed)) for seed in range(50)} == {("a", "b")}


CANDIDATES = st.lists(
    st.builds(
        Candidate,
        model=st.sampled_from("abcdefgh"),
        weight=st.integers(0, 1000),
        when=st.builds(Conditions, tools=st.sampled_from([None, True, False])),
    ),
    min_size=1,
    max_size=16,
)


@given(
    CANDIDATES,
    st.dictionaries(st.sampled_from("abcdefgh"), st.sampled_from([OPEN, HALF_OPEN])),
    st.sampled_from(Strategy),
    st.booleans(),
    st.integers(),
)
def test_whatever_is_decided_is_fit_not_suspended_and_all_there_is(
    candidates: list[Candidate], health: dict[str, Health], strategy: Strategy, tools: bool, seed: int
) -> None:
    asked = route(*candidates, strategy=strategy)
    fit = {each.model for each in candidates if each.when.tools in (None, tools)}
    usable = {name for name in fit if health.get(name) is not OPEN}
    try:
        found = decided(asked, Facts(tools=tools), health, seed)
    except ProviderSuspended:
        assert fit
        assert not usable
    except NotServed:
        assert not fit
    else:
        assert len(found) == len(set(found))
        assert set(found) == usable


def test_only_who_may_be_given_all_parameters_is_asked() -> None:
    def given(model: str, *parameters: str) -> Target:
        return replace(target(model), account=replace(ACCOUNT, name=model, parameters=frozenset(parameters)))

    targets = {"a": given("a"), "b": given("b", "top_k", "min_p"), "c": given("c", "top_k")}

    def asked(*beyond: str) -> list[str]:
        facts = Facts(beyond=frozenset(beyond))
        return [found.model for found in decide(route(A, B, C), facts, {}, targets)]

    assert (asked(), asked("top_k"), asked("top_k", "min_p")) == (["a", "b", "c"], ["b", "c"], ["b"])
    with pytest.raises(InvalidRequest) as refused:
        asked("top_k", "temprature")
    assert (refused.value.code, refused.value.param) == ("invalid_request", "temprature")
    del targets["b"]
    targets["a"] = given("a", "min_p")
    with pytest.raises(NotServed, match=r"a isn't given top_k; .*; c isn't given min_p"):
        asked("top_k", "min_p")


def test_of_a_parameter_with_an_endless_name_little_is_repeated() -> None:
    with pytest.raises(InvalidRequest) as refused:
        decided(route(A), Facts(beyond=frozenset(["x" * 10_000])))
    assert len(refused.value.message) < 250
    assert len(refused.value.param or "") < 100
