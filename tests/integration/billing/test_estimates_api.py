"""Estimates over HTTP: from what the same thing cost before, within what is held."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, LiteralString
from uuid import UUID

import pytest

from functions.api import estimates
from shared.agents import service as agents
from shared.billing import estimates_store
from shared.identity.policy import Role
from shared.kernel import clock, db, ids
from shared.kernel.caller import Caller
from shared.runs import estimating_store as runs_history
from shared.sandboxes import estimating_store as sandboxes_history
from shared.sandboxes import service as sandboxes_service
from tests.api_gateway import Answer
from tests.integration.billing.estimated import (
    BUDGET,
    CONFIG,
    Call,
    agent_of,
    cancelled_run,
    enrich,
    old_runs,
    run_costing,
    sandbox_used_for,
    start_run,
)
from tests.model_provider import Provider
from tests.people import joined


@pytest.fixture
def estimate(call: Call, org: Caller, provider: Provider) -> Callable[..., Answer]:
    """`estimate("run", agent_id=…)`: the answer of POST /v1/estimates."""

    def ask(kind: str, *, caller: Caller = org, **fields: Any) -> Answer:
        return call(estimates.handler, "POST", "/v1/estimates", caller, json={"kind": kind, **fields})

    return ask


def test_a_run_of_a_new_agent_is_estimated_from_its_config(org: Caller, estimate: Callable[..., Answer]) -> None:
    answer = estimate("run", agent_id=ids.show("agent", agent_of(org)))
    assert answer.status == 200
    # Four steps of runyard-offline, $0.10 and $0.40 for a million: 4 x (3 + 250) + 750 x 6 tokens in, 4 x 250 out.
    assert answer.json["expected_microusd"] == 551 + 400
    assert answer.json | {"price_book": "", "expected_microusd": 0} == {
        "object": "estimate",
        "kind": "run",
        "expected_microusd": 0,
        "p90_microusd": BUDGET,
        "worst_microusd": BUDGET,
        "basis": "price_book",
        "samples": 0,
        "price_book": "",
    }


def test_the_worst_case_of_a_run_is_the_budget_that_is_given(org: Caller, estimate: Callable[..., Answer]) -> None:
    answer = estimate("run", agent_id=ids.show("agent", agent_of(org)), budget_microusd=700)
    assert [answer.json[name] for name in ("expected_microusd", "p90_microusd", "worst_microusd")] == [700, 700, 700]


def test_an_agent_s_sandbox_is_expected_for_two_minutes(org: Caller, estimate: Callable[..., Answer]) -> None:
    config = replace(CONFIG, tools=("sandbox.exec",), timeout_s=600)
    with_sandbox = estimate("run", agent_id=ids.show("agent", agent_of(org, config))).json["expected_microusd"]
    with_tool = replace(CONFIG, tools=("memory.save",), timeout_s=600)
    without = estimate("run", agent_id=ids.show("agent", agent_of(org, with_tool))).json["expected_microusd"]
    assert with_sandbox - without == sandboxes_service.worst_case_cost(120)


def test_a_model_without_a_price_may_cost_the_whole_budget(org: Caller, estimate: Callable[..., Answer]) -> None:
    config = replace(CONFIG, model="no-such-model")
    assert estimate("run", agent_id=ids.show("agent", agent_of(org, config))).json["expected_microusd"] == BUDGET


def test_five_runs_make_a_history_and_the_cancelled_are_no_part_of_it(
    org: Caller, estimate: Callable[..., Answer]
) -> None:
    enrich(org)
    agent_id = agent_of(org)
    for cost in (10, 20, 30, 40):
        run_costing(org, agent_id, cost)
    cancelled_run(org, agent_id)
    start_run(org, agent_id)
    assert estimate("run", agent_id=ids.show("agent", agent_id)).json["basis"] == "price_book"
    with db.tenant(org) as tx:
        agents.update_agent(
            tx, org, agent_id=agent_id, name=None, config=replace(CONFIG, instructions="Now!"), metadata=None
        )
    run_costing(org, agent_id, 50)
    run_costing(org, agent_of(org), 9_999)
    found = estimate("run", agent_id=ids.show("agent", agent_id)).json
    assert (found["basis"], found["samples"]) == ("history", 5)
    assert (found["expected_microusd"], found["p90_microusd"], found["worst_microusd"]) == (30, 50, BUDGET)


def test_the_newest_two_hundred_runs_count(org: Caller, estimate: Callable[..., Answer]) -> None:
    agent_id = agent_of(org)
    old_runs(org, agent_id, status="succeeded", costs="CASE WHEN n <= 50 THEN 900 ELSE 100 END", first=1, last=250)
    found = estimate("run", agent_id=ids.show("agent", agent_id)).json
    assert (found["samples"], found["expected_microusd"], found["p90_microusd"]) == (200, 100, 100)


def test_a_thousand_cancelled_runs_aren_t_looked_past(org: Caller, estimate: Callable[..., Answer]) -> None:
    agent_id = agent_of(org)
    old_runs(org, agent_id, status="failed", costs="100", first=1, last=6)
    old_runs(org, agent_id, status="cancelled", costs="0", first=7, last=1_001)
    assert estimate("run", agent_id=ids.show("agent", agent_id)).json["samples"] == 5


def test_a_sandbox_is_estimated_by_how_much_of_their_time_others_were_used(
    org: Caller, estimate: Callable[..., Answer]
) -> None:
    enrich(org)
    price = sandboxes_service.worst_case_cost
    first = estimate("sandbox", ttl_s=1_000).json
    assert (first["basis"], first["expected_microusd"]) == ("price_book", price(1_000))
    # Of ten minutes each: six were used for one of them, one to its end; one never was ready.
    for used_s in (60, 60, 60, 60, 60, 60, 600, None):
        sandbox_used_for(org, used_s)
    found = estimate("sandbox", ttl_s=1_000).json
    assert (found["basis"], found["samples"]) == ("history", 7)
    assert found["p90_microusd"] == found["worst_microusd"] == price(1_000)
    assert found["expected_microusd"] == round((6 * price(100) + price(1_000)) / 7)


def test_a_member_s_sandboxes_are_estimated_by_their_own(org: Caller, estimate: Callable[..., Answer]) -> None:
    enrich(org)
    ada, bob = joined(org, Role.MEMBER, name="Ada"), joined(org, Role.MEMBER, name="Bob")
    for _ in range(5):
        sandbox_used_for(ada, 60)
    samples = {
        name: estimate("sandbox", caller=caller).json["samples"] for name, caller in (("ada", ada), ("bob", bob))
    }
    assert samples == {"ada": 5, "bob": 0}
    assert estimate("sandbox").json["samples"] == 5


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("chat", {"messages": [{"role": "user", "content": "Why?"}], "max_tokens": 100}),
        ("embeddings", {"input": "blue"}),
        ("embeddings", {"input": ["blue", "green"]}),
        ("memory", {"content": "Ada prefers metric units."}),
    ],
    ids=str,
)
def test_a_call_is_estimated_from_the_price_book(
    estimate: Callable[..., Answer], kind: str, fields: dict[str, Any]
) -> None:
    answer = estimate(kind, **fields)
    assert answer.status == 200, answer.text
    found = answer.json
    assert (found["kind"], found["basis"], found["samples"]) == (kind, "price_book", 0)
    assert 0 <= found["expected_microusd"] <= found["p90_microusd"] == found["worst_microusd"] > 0
    assert found["price_book"].startswith("20")


@pytest.mark.parametrize(
    ("status", "code", "fields"),
    [
        pytest.param(400, "invalid_request", {"kind": "holiday"}, id="unknown kind"),
        pytest.param(400, "invalid_request", {}, id="no kind"),
        pytest.param(400, "invalid_request", {"kind": "sandbox", "ttl_s": 3_601}, id="too long"),
        pytest.param(400, "invalid_request", {"kind": "sandbox", "budget_microusd": 1}, id="another kind's field"),
        pytest.param(400, "invalid_request", {"kind": "memory", "content": "\u0000"}, id="NUL"),
        pytest.param(400, "invalid_request", {"kind": "memory", "content": " "}, id="empty"),
        pytest.param(413, "memory_too_large", {"kind": "memory", "content": "x" * 100_001}, id="too large"),
        pytest.param(404, "model_not_found", {"kind": "embeddings", "input": "a", "model": "none"}, id="no such model"),
        pytest.param(404, "not_found", {"kind": "run", "agent_id": ids.show("agent", UUID(int=7))}, id="no such agent"),
    ],
)
def test_what_can_t_be_started_has_no_estimate(
    call: Call, org: Caller, status: int, code: str, fields: dict[str, Any]
) -> None:
    answer = call(estimates.handler, "POST", "/v1/estimates", org, json=fields)
    assert (answer.status, answer.error) == (status, code)


def test_a_budget_that_the_sandbox_alone_could_use_up_has_no_estimate(
    org: Caller, estimate: Callable[..., Answer]
) -> None:
    agent_id = agent_of(org, replace(CONFIG, tools=("sandbox.exec",), timeout_s=3_000))
    assert estimate("run", agent_id=ids.show("agent", agent_id), budget_microusd=5).error == "budget_too_small"


def test_what_others_may_not_see_they_can_t_estimate(
    org: Caller, rival: Caller, estimate: Callable[..., Answer]
) -> None:
    agent_id = agent_of(joined(org, Role.MEMBER, name="Ada"))
    shown = ids.show("agent", agent_id)
    for stranger in (rival, joined(org, Role.MEMBER, name="Bob")):
        answer = estimate("run", caller=stranger, agent_id=shown)
        assert (answer.status, answer.error) == (404, "not_found")
    assert estimate("run", caller=joined(org, Role.VIEWER), agent_id=shown).status == 200


@pytest.mark.parametrize("kind", estimates.SCOPES)
def test_a_kind_needs_the_scope_to_read_such_things(org: Caller, estimate: Callable[..., Answer], kind: str) -> None:
    fields = {"run": {"agent_id": ids.show("agent", agent_of(org))}, "memory": {"content": "a"}}.get(kind, {})
    lacking = replace(org, scopes=org.scopes - {estimates.SCOPES[kind]})
    assert estimate(kind, **fields).status == 200
    assert estimate(kind, caller=lacking, **fields).error == "insufficient_scope"


# Dry runs


@pytest.mark.parametrize(
    ("table", "query", "index"),
    [
        ("runs", runs_history.COSTS, "runs_of_agent"),
        ("sandboxes", sandboxes_history.LIFETIMES, "sandboxes_of_template"),
        ("estimates", estimates_store.WEEKS, "estimates_closed"),
        ("estimates", estimates_store.CLOSE, "estimates_pkey"),
    ],
    ids=lambda value: value if " " not in value else "",
)
def test_an_index_answers(org: Caller, table: str, query: LiteralString, index: str) -> None:
    values = {
        "agent_id": ids.new(),
        "template": "python",
        "limit": 200,
        "looked_through": 1_000,
        "only_own": None,
        "since": clock.now(),
        "until": clock.now(),
        "now": clock.now(),
        "subject": "run_x",
        "actual_microusd": 1,
    }
    with db.tenant(org) as tx:
        tx.execute("SET LOCAL enable_seqscan = off")
        plan = "\n".join(str(row) for row in tx.execute("EXPLAIN " + query, values))
    assert index in plan, plan
    assert "Seq Scan" not in plan
