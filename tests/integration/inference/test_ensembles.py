"""An ensemble asks several models and lets another pick; every call is paid, and a failing one isn't missed."""

import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from shared.billing import service as billing
from shared.inference import configuring, routes, service, store
from shared.inference.errors import BudgetExceeded
from shared.inference.model import ChatRequest, Completion
from shared.inference.policy import Candidate, Ensemble, Route
from shared.kernel import db, ids
from shared.kernel.caller import Caller
from shared.kernel.errors import ProviderFailed
from shared.kernel.pagination import Slice
from tests.model_provider import Provider

MODELS = ("gpt-5", "gpt-5-mini", "gpt-5-nano")
JUDGE = "gpt-4.1-mini"
QUESTION = ChatRequest(messages=[{"role": "user", "content": "What is 6 times 7?"}], model="council")
TOKENS = {"prompt_tokens": 1_000, "completion_tokens": 100, "total_tokens": 1_100}


@pytest.fixture
def council(org: Caller, operator: Caller, provider: Provider) -> Caller:
    """A tenant with credits and a route `council` of three models and a judge."""
    with configuring.changing(org) as tx:
        billing.grant(tx, org, amount_microusd=1_000_000, source_id=str(ids.new()), reason="test")
        route = Route(
            name="council",
            candidates=[Candidate(model=model) for model in MODELS],
            ensemble=Ensemble(n=3, judge=JUDGE),
        )
        routes.create_route(tx, org, route)
    return org


def speaking(provider: Provider, said: Mapping[str, str | int]) -> Callable[[Request], Response]:
    """Answer for each model with its text, or fail with its status."""

    def reply(request: Request) -> Response:
        body = json.loads(request._body)
        what = said[body["model"]]
        if isinstance(what, int):
            return JSONResponse({"error": {"message": "No.", "type": "error"}}, what)
        choice = {"index": 0, "message": {"role": "assistant", "content": what}, "finish_reason": "stop"}
        return JSONResponse(
            {"id": "chatcmpl-1", "created": 1, "model": body["model"], "choices": [choice], "usage": TOKENS}
        )

    provider.replies(reply, times=20)
    return reply


def ask(caller: Caller, **changes: Any) -> Completion:
    known: dict[str, Any] = {"request": QUESTION, "source_id": "question", "max_cost_microusd": None}
    return service.complete(caller, **known | changes)


def paid(caller: Caller) -> dict[str, int]:
    """Return what each model's call has cost."""
    with db.tenant(caller) as tx:
        return {call.model: call.cost_microusd for call in store.list_calls(tx, Slice(limit=50), store.Filter())}


def test_the_judges_choice_is_the_answer_and_all_are_paid(council: Caller, provider: Provider) -> None:
    speaking(provider, {"gpt-5": "41", "gpt-5-mini": "42", "gpt-5-nano": "43", JUDGE: 'I say {"best": 2}.'})

    answer = ask(council)

    assert answer.text == "42"
    costs = paid(council)
    assert costs.keys() == {*MODELS, JUDGE}
    assert answer.cost_microusd == sum(costs.values())
    with db.tenant(council) as tx:
        assert billing.balance(tx).settled_microusd == answer.cost_microusd
        assert billing.balance(tx).held_microusd == 0
    told = next(asked.body for asked in provider.asked if asked.body["model"] == JUDGE)
    assert all(text in told["messages"][-1]["content"] for text in ("41", "42", "43", "6 times 7"))


@pytest.mark.parametrize(
    "verdict", ["no idea", '{"best": 9}', '{"best": 0}', 500], ids=["words", "beyond", "zero", "failing"]
)
def test_without_a_verdict_the_first_answer_stands(council: Caller, provider: Provider, verdict: str | int) -> None:
    speaking(provider, {"gpt-5": "41", "gpt-5-mini": "42", "gpt-5-nano": "43", JUDGE: verdict})

    assert ask(council).text == "41"


def test_who_fails_is_left_out_and_a_lone_answer_needs_no_judge(council: Caller, provider: Provider) -> None:
    speaking(provider, {"gpt-5": 500, "gpt-5-mini": "42", "gpt-5-nano": 400, JUDGE: '{"best": 1}'})

    assert ask(council).text == "42"
    assert JUDGE not in [asked.body["model"] for asked in provider.asked]


def test_all_failing_is_a_failure_that_costs_nothing(council: Caller, provider: Provider) -> None:
    speaking(provider, {**dict.fromkeys(MODELS, 500), JUDGE: '{"best": 1}'})

    with pytest.raises(ProviderFailed):
        ask(council)

    assert set(paid(council).values()) == {0}


def test_together_they_stay_within_what_a_run_may_spend(council: Caller, provider: Provider) -> None:
    speaking(provider, {"gpt-5": "41", "gpt-5-mini": "42", "gpt-5-nano": "43", JUDGE: '{"best": 3}'})

    answer = ask(council, max_cost_microusd=2_000)

    assert answer.cost_microusd <= 2_000
    with pytest.raises(BudgetExceeded):
        ask(council, source_id="another", max_cost_microusd=4)


def test_asked_again_each_call_is_the_one_that_was_made(council: Caller, provider: Provider) -> None:
    speaking(provider, {"gpt-5": "41", "gpt-5-mini": "42", "gpt-5-nano": "43", JUDGE: '{"best": 3}'})

    first, asked = ask(council), len(provider.asked)
    again = ask(council)

    assert (again.text, again.cost_microusd) == (first.text, first.cost_microusd) == ("43", first.cost_microusd)
    assert len(provider.asked) == asked
