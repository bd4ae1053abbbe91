"""HTTP API of quotas, and what the quotas stop: runs, sandboxes, memories."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

import pytest

from functions.api import memory as memory_api
from functions.api import quotas as api
from functions.api import runs as runs_api
from functions.api import sandboxes as sandboxes_api
from shared.agents import service as agents
from shared.agents.model import AgentConfig
from shared.audit import service as audit
from shared.billing import service as billing
from shared.kernel import clock, db, ids
from shared.kernel.caller import Caller
from shared.kernel.errors import PlanLimitReached, QuotaExceeded
from shared.kernel.pagination import Slice
from shared.quotas import service as quotas
from shared.quotas.plans import PLANS, Allowance, Resource
from shared.runs import ending, machine
from shared.runs.model import EndReason, diagnose
from shared.sandboxes import service as sandboxes
from shared.sandboxes.model import StopReason
from tests.api_gateway import Answer
from tests.http_server import listening
from tests.integration.runs.conftest import queued as queued
from tests.integration.runs.test_launching import _aws as aws
from tests.model_provider import Provider

type Call = Callable[..., Answer]


def path(org: Caller) -> str:
    return f"/v1/orgs/{ids.show('org', org.org_id)}/quota"


def allow(org: Caller, **limits: int) -> None:
    with db.tenant(org) as tx:
        named = {Resource(name): limit for name, limit in limits.items()}
        quotas.set_limits(tx, org, org.org_id, quotas=named)


def used(org: Caller) -> dict[str, int]:
    """What is used of each resource of which anything is."""
    with db.tenant(org) as tx:
        return {str(each.resource): each.used for each in quotas.status(tx, org.org_id) if each.used}


def grant(org: Caller) -> None:
    with db.tenant(org) as tx:
        billing.grant(tx, org, amount_microusd=5_000_000, source_id="quota-test", reason="to test with")


# --- the resource ------------------------------------------------------------------------------------------------


def test_an_org_sees_its_limits_and_what_it_uses(call: Call, org: Caller, queued: Callable[..., UUID]) -> None:
    queued("A")
    answer = call(api.handler, "GET", path(org), org)
    assert answer.status == 200
    assert answer.json["plan"] == "free"
    assert answer.json["quotas"]["concurrent_runs"] == {"limit": 5, "used": 1}
    assert answer.json["quotas"]["members"] == {"limit": 1, "used": 0}
    assert answer.json["quotas"].keys() == set(Resource)
    assert answer.json["rates"]["read"] == {
        "org": {"per_minute": 600, "burst": 100},
        "actor": {"per_minute": 300, "burst": 50},
    }


def test_another_orgs_quota_does_not_exist(call: Call, org: Caller, rival: Caller) -> None:
    assert call(api.handler, "GET", path(org), rival).status == 404


def test_only_the_operator_sets_limits(call: Call, org: Caller, operator: Caller) -> None:
    assert call(api.handler, "PUT", path(org), org, json={"quotas": {"members": 8}}).status == 403
    wanted = {"quotas": {"members": 8}, "rates": {"model": 1200}, "monthly": {"memories": 9}, "retention_days": 40}
    answer = call(api.handler, "PUT", path(org), operator, json=wanted)
    assert answer.status == 200
    assert answer.json == call(api.handler, "GET", path(org), org).json
    assert answer.json["plan"] == "free"
    assert answer.json["quotas"]["members"]["limit"] == 8
    assert answer.json["quotas"]["sandboxes"]["limit"] == PLANS["free"].quotas[Resource.SANDBOXES]
    assert (answer.json["monthly"], answer.json["retention_days"]) == ({"memories": {"limit": 9, "used": 0}}, 40)
    assert answer.json["rates"]["model"]["org"] == {"per_minute": 1200, "burst": 200}


def test_what_is_not_named_stays_and_null_takes_the_plans_own_again(call: Call, org: Caller, operator: Caller) -> None:
    call(api.handler, "PUT", path(org), operator, json={"quotas": {"members": 8, "sandboxes": 0}})
    call(api.handler, "PUT", path(org), operator, json={"monthly": {"memories": 9}, "retention_days": 40})
    answer = call(api.handler, "PUT", path(org), operator, json={"quotas": {"members": None}})
    assert (answer.json["monthly"]["memories"]["limit"], answer.json["retention_days"]) == (9, 40)
    assert answer.json["quotas"]["members"]["limit"] == PLANS["free"].quotas[Resource.MEMBERS]
    assert answer.json["quotas"]["sandboxes"]["limit"] == 0
    nothing = {"monthly": {"memories": None}, "retention_days": None}
    answer = call(api.handler, "PUT", path(org), operator, json=nothing)
    assert (answer.json["monthly"]["memories"]["limit"], answer.json["retention_days"]) == (1000, 7)


def test_what_the_operator_sets_is_in_the_orgs_audit_trail(call: Call, org: Caller, operator: Caller) -> None:
    call(api.handler, "PUT", path(org), operator, json={"quotas": {"members": 8}})
    with db.tenant(org) as tx:
        event = audit.list_events(tx, Slice(limit=1, before=None), action="quota.update", resource_id=None)[0]
    assert (event.actor, event.resource_id) == (operator.actor_id, ids.show("org", org.org_id))
    assert event.old == {"plan": "free", "quotas": {}, "rates": {}}
    assert event.new == {"plan": "free", "quotas": {"members": 8}, "rates": {}}


def test_there_is_no_quota_of_an_org_that_there_is_not(call: Call, operator: Caller) -> None:
    nowhere = replace(operator, org_id=ids.new())
    assert call(api.handler, "PUT", path(nowhere), operator, json={"quotas": {"members": 2}}).status == 404


@pytest.mark.parametrize(
    "body",
    [
        {"plan": "pro"},
        {"monthly": {"memories": -1}},
        {"monthly": {"runs": 1}},
        {"retention_days": 0},
        {"retention_days": "long"},
        {"quotas": {"dirigibles": 1}},
        {"quotas": {"members": -1}},
        {"quotas": {"members": 2**63}},
        {"rates": {"read": 0}},
        {"rates": {"teleport": 1}},
        {"quota": {}},
    ],
)
def test_limits_that_make_no_sense_are_refused(call: Call, org: Caller, operator: Caller, body: dict[str, int]) -> None:
    assert call(api.handler, "PUT", path(org), operator, json=body).status == 400


def test_new_rates_reach_whoever_signs_in_next(call: Call, org: Caller, operator: Caller) -> None:
    call(api.handler, "PUT", path(org), operator, json={"rates": {"read": 60}})
    with db.tenant(org) as tx:
        limits, _ = quotas.limits_and_status(tx, org.org_id)
    assert "org.read=60/30" in quotas.rates_of(limits.plan.name, limits.overrides.to_json(), None)


# --- runs --------------------------------------------------------------------------------------------------------


def test_a_run_beyond_the_quota_is_refused_and_costs_nothing(
    call: Call, org: Caller, queued: Callable[..., UUID]
) -> None:
    allow(org, concurrent_runs=1)
    run_id = queued("A")
    with db.tenant(org) as tx:
        agent_id = runs_of(org, run_id)
        before = billing.balance(tx)
    answer = call(runs_api.handler, "POST", f"/v1/agents/{agent_id}/runs", org, json={"input": "More"})
    assert (answer.status, answer.error, answer.json["error"]["param"]) == (403, "quota_exceeded", "concurrent_runs")
    assert "may have 1 runs at once and has 1" in answer.json["error"]["message"]
    told = answer.json["error"]["details"]
    assert (told["resource"], told["limit"], told["used"], told["plan"]) == ("concurrent_runs", 1, 1, "free")
    assert "cancel one" in told["lift"]
    with db.tenant(org) as tx:
        assert billing.balance(tx) == before


def runs_of(org: Caller, run_id: UUID) -> str:
    with db.tenant(org) as tx:
        return ids.show("agent", ending.existing(tx, run_id).agent_id)


def test_a_run_that_ends_makes_room_once(org: Caller, queued: Callable[..., UUID]) -> None:
    allow(org, concurrent_runs=2)
    first, second = queued("A"), queued("B")
    assert used(org) == {"concurrent_runs": 2}
    for _ in range(2):
        machine.fail(org, first)
        assert used(org) == {"concurrent_runs": 1}
    machine.fail(org, second)
    assert used(org) == {}
    queued("C")


def test_credits_refused_leave_no_run_counted(call: Call, org: Caller) -> None:
    config = AgentConfig(
        instructions="Be brief.", model=None, tools=(), max_steps=1, timeout_s=60, budget_microusd=100_000
    )
    with db.tenant(org) as tx:
        agent = agents.create_agent(tx, org, name="Poor", config=config, metadata={})
    answer_path = f"/v1/agents/{ids.show('agent', agent.id)}/runs"
    assert call(runs_api.handler, "POST", answer_path, org, json={"input": "Hello"}).status == 402
    assert used(org) == {}


# --- sandboxes ---------------------------------------------------------------------------------------------------


def sandbox(org: Caller) -> UUID:
    with db.tenant(org) as tx:
        return sandboxes.create(tx, org, ttl_s=60, metadata={}).id


def test_a_sandbox_counts_until_it_ends(org: Caller) -> None:
    grant(org)
    allow(org, sandboxes=1)
    first = sandbox(org)
    with pytest.raises(QuotaExceeded, match="sandboxes at once"):
        sandbox(org)
    for _ in range(2):
        sandboxes.end(org, first, reason=StopReason.REQUESTED)
        assert used(org) == {}
    sandbox(org)


def test_a_sandbox_beyond_the_quota_is_refused(call: Call, org: Caller) -> None:
    grant(org)
    allow(org, sandboxes=0)
    answer = call(sandboxes_api.handler, "POST", "/v1/sandboxes", org, json={"ttl_s": 60})
    assert (answer.status, answer.error, answer.json["error"]["param"]) == (403, "quota_exceeded", "sandboxes")


def test_a_run_without_room_for_its_sandbox_says_so(org: Caller, queued: Callable[..., UUID]) -> None:
    allow(org, sandboxes=0)
    run_id = queued("A")
    with pytest.raises(QuotaExceeded) as refusal:
        machine.launch_sandbox(org, run_id, wake_token="token")
    cause = f'{{"errorMessage": "{refusal.value}"}}'
    reason, failure = diagnose({"Error": type(refusal.value).__name__, "Cause": cause})
    assert (reason, failure) == (EndReason.QUOTA_EXCEEDED, str(refusal.value))
    machine.recover(org, run_id, reason=reason, failure=failure)
    assert machine.fail(org, run_id).end_reason is EndReason.QUOTA_EXCEEDED
    assert used(org) == {}


def test_a_runs_own_sandbox_counts_until_the_run_ends(
    org: Caller, queued: Callable[..., UUID], monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = queued("A")
    with listening(aws([])) as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL_ECS", url)
        monkeypatch.setenv("AWS_ENDPOINT_URL_SFN", url)
        for _ in range(2):
            machine.launch_sandbox(org, run_id, wake_token="token")
            assert used(org) == {"concurrent_runs": 1, "sandboxes": 1}
        machine.fail(org, run_id)
    assert used(org) == {}


# --- memories ----------------------------------------------------------------------------------------------------


def save(call: Call, org: Caller, content: str) -> Answer:
    return call(memory_api.handler, "POST", "/v1/memories", org, json={"content": content, "subject": "user-1"})


def test_memories_count_with_their_bytes_until_deleted(call: Call, org: Caller, provider: Provider) -> None:
    grant(org)
    saved = save(call, org, "Grüße")
    assert saved.status == 201
    assert used(org) == {"memories": 1, "storage_bytes": 7}
    assert call(memory_api.handler, "DELETE", f"/v1/memories/{saved.json['id']}", org).status == 204
    assert call(memory_api.handler, "DELETE", f"/v1/memories/{saved.json['id']}", org).status == 404
    assert used(org) == {}


def test_a_memory_beyond_the_quota_is_refused_before_it_costs_anything(
    call: Call, org: Caller, provider: Provider
) -> None:
    grant(org)
    for resource, limit in (("memories", 0), ("storage_bytes", 4)):
        allow(org, **{"memories": 10, "storage_bytes": 10} | {resource: limit})
        answer = save(call, org, "Hello")
        assert (answer.status, answer.error, answer.json["error"]["param"]) == (403, "quota_exceeded", resource)
    with db.tenant(org) as tx:
        assert billing.balance(tx).available_microusd == 5_000_000
    assert used(org) == {}


def test_the_same_memory_saved_again_counts_once(call: Call, org: Caller, provider: Provider) -> None:
    grant(org)
    headers = {"idempotency-key": "once"}
    body = {"content": "Hello", "subject": "user-1"}
    for _ in range(2):
        assert call(memory_api.handler, "POST", "/v1/memories", org, json=body, headers=headers).status == 201
    assert used(org) == {"memories": 1, "storage_bytes": 5}


def allow_a_month(org: Caller, memories: int) -> None:
    with db.tenant(org) as tx:
        quotas.set_limits(tx, org, org.org_id, monthly={Allowance.MEMORIES: memories})


def saved_this_month(call: Call, org: Caller) -> int:
    return int(call(api.handler, "GET", path(org), org).json["monthly"]["memories"]["used"])


def test_a_memory_beyond_the_months_allowance_is_refused_before_it_costs_anything(
    call: Call, org: Caller, provider: Provider
) -> None:
    grant(org)
    allow_a_month(org, 1)
    first = save(call, org, "One")
    with db.tenant(org) as tx:
        before = billing.balance(tx)
    answer = save(call, org, "Two")
    assert (answer.status, answer.error, answer.json["error"]["param"]) == (403, "plan_limit_reached", "memories")
    told = answer.json["error"]["details"]
    assert (told["resource"], told["limit"], told["used"], told["plan"]) == ("monthly_memories", 1, 1, "free")
    with db.tenant(org) as tx:
        assert billing.balance(tx) == before
    # Deleting makes room for what is held, and gives the month nothing back.
    call(memory_api.handler, "DELETE", f"/v1/memories/{first.json['id']}", org)
    assert save(call, org, "Three").error == "plan_limit_reached"
    assert used(org) == {}


def test_a_memory_saved_again_spends_the_months_allowance_once(call: Call, org: Caller, provider: Provider) -> None:
    grant(org)
    headers, body = {"idempotency-key": "once"}, {"content": "Hello", "subject": "user-1"}
    for _ in range(2):
        assert call(memory_api.handler, "POST", "/v1/memories", org, json=body, headers=headers).status == 201
    assert saved_this_month(call, org) == 1


def test_a_new_month_brings_a_new_allowance(org: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    allow_a_month(org, 1)
    for moment in (datetime(2027, 1, 31, 23, 59, 59, tzinfo=UTC), datetime(2027, 2, 1, tzinfo=UTC)):
        monkeypatch.setattr(clock, "now", lambda moment=moment: moment)
        spend(org)
        with pytest.raises(PlanLimitReached, match="had 1"):
            spend(org)


def test_what_was_rolled_back_spent_nothing(org: Caller) -> None:
    allow_a_month(org, 1)
    with db.tenant(org) as tx:
        quotas.spend_allowance(tx, org.org_id, Allowance.MEMORIES)
        tx.rollback()
    spend(org)


def test_a_plan_without_limit_lets_everything_through_and_counts_it(call: Call, org: Caller) -> None:
    with db.tenant(org) as tx:
        quotas.set_plan(tx, org, org.org_id, "pro")
        quotas.spend_allowance(tx, org.org_id, Allowance.MEMORIES, amount=5_000)
        quotas.allocate(tx, org.org_id, Resource.MEMORIES, holder="mem_1", amount=50_000)
        quotas.check(tx, org.org_id, Resource.MEMORIES, amount=2**53)
        quotas.check_allowance(tx, org.org_id, Allowance.MEMORIES, amount=2**53)
    answer = call(api.handler, "GET", path(org), org).json
    assert answer["quotas"]["memories"] == {"limit": None, "used": 50_000}
    assert answer["monthly"]["memories"] == {"limit": None, "used": 5_000}


def test_many_at_once_never_spend_more_than_the_month_allows(org: Caller) -> None:
    allow_a_month(org, 10)

    def attempt(_: int) -> bool:
        try:
            spend(org)
        except PlanLimitReached:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(attempt, range(40))) == 10


def test_another_orgs_month_is_its_own(org: Caller, rival: Caller) -> None:
    allow_a_month(org, 1)
    allow_a_month(rival, 1)
    spend(org)
    spend(rival)


def spend(org: Caller) -> None:
    with db.tenant(org) as tx:
        quotas.spend_allowance(tx, org.org_id, Allowance.MEMORIES)
