"""Usage, credits and plans over HTTP through the front door, metered by the deployed functions themselves."""

from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import httpx

from local import aws
from tests.e2e.deployed import Deployed
from tests.e2e.tenant import Tenant, success
from tests.waiting import until


def operator(home: Deployed) -> httpx.Client:
    return home.client(aws.operator_key(home.home))


def used(tenant: Tenant, kind: str) -> dict[str, Any]:
    totals = tenant.get("/v1/usage")["data"]
    found: dict[str, Any] = next(total for total in totals if total["kind"] == kind)
    return found


def test_what_a_service_meters_is_counted_and_paid_once_however_often_it_is_handed_in(
    home: Deployed, tenant: Tenant
) -> None:
    before = tenant.balance()
    event = {
        "kind": "call_seconds",
        "quantity": 600,
        "source_id": f"call:{uuid4()}",
        "occurred_at": datetime.now(UTC).isoformat(),
        "dimensions": {},
    }
    for _ in range(3):
        answer = operator(home).post("/v1/usage/events", json={"org_id": tenant.org_id, "events": [event, event]})
        assert success(answer).status_code == 202
    until(lambda: used(tenant, "call_seconds")["quantity"] == 600, "the call in the ledger", within_s=30)
    # Whatever is still under way counts nothing more: the last message is behind the others.
    marker = event | {"source_id": f"call:{uuid4()}", "quantity": 1}
    success(operator(home).post("/v1/usage/events", json={"org_id": tenant.org_id, "events": [marker]}))
    until(lambda: used(tenant, "call_seconds")["quantity"] == 601, "the last call", within_s=30)
    cost = used(tenant, "call_seconds")["cost_microusd"]
    assert cost > 0
    after = tenant.balance()
    assert after["settled_microusd"] - before["settled_microusd"] == cost
    assert home.violations(tenant.org_id) == []


def test_a_run_is_estimated_tried_dry_and_its_usage_told_by_agent_and_key(home: Deployed, tenant: Tenant) -> None:
    agent = tenant.agent("memory.search")
    estimate = tenant.post("/v1/estimates", {"kind": "run", "agent_id": agent})
    assert 0 <= estimate["expected_microusd"] <= estimate["p90_microusd"] <= estimate["worst_microusd"]
    dry = tenant.http.post(f"/v1/agents/{agent}/runs", params={"dry_run": "true"}, json={"input": "offline: say hello"})
    assert (dry.status_code, dry.json()["would_start"]) == (200, True)
    assert tenant.get("/v1/runs")["data"] == []
    assert tenant.balance()["held_microusd"] == 0
    run = tenant.ended_run(tenant.start_run("say hello", agent=agent))
    assert run["cost_microusd"] <= estimate["worst_microusd"]
    days = tenant.get("/v1/usage/daily", group_by="agent,key,model", kind="tokens_output")["data"]
    key = tenant.get("/v1/me")["actor_id"]
    assert {(day["agent_id"], day["key_id"]) for day in days} == {(agent, key)}
    weeks = tenant.get("/v1/reports/estimates")["data"]
    assert [(week["kind"], week["count"]) for week in weeks] == [("run", 1)]
    home.assert_ended_once(tenant, run["id"])


def test_an_upgrade_counts_at_once_and_a_downgrade_tells_all_that_stands_in_the_way(home: Deployed) -> None:
    tenant = home.tenant()
    path = f"/v1/orgs/{tenant.org_id}/subscription"
    success(operator(home).put(path, json={"plan": "free"}))
    agent = tenant.agent()
    refused = tenant.http.put("/v1/subscription", json={"plan": "pro"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (402, "payment_required")
    success(operator(home).put(path, json={"plan": "pro"}))
    assert tenant.get("/v1/subscription")["plan"] == "pro"
    granted = tenant.balance()["granted_microusd"]
    assert granted > 5_000_000
    waiting = [tenant.start_run("exec sleep 60", agent=agent) for _ in range(6)]
    blocked = tenant.http.put("/v1/subscription", json={"plan": "free"})
    assert (blocked.status_code, blocked.json()["error"]["code"]) == (409, "plan_downgrade_blocked")
    assert "concurrent_runs" in {each["resource"] for each in blocked.json()["error"]["details"]["obstacles"]}
    for run_id in waiting:
        success(tenant.http.post(f"/v1/runs/{run_id}/cancel"))
    success(tenant.http.put("/v1/subscription", json={"plan": "free"}))
    assert tenant.balance()["granted_microusd"] == granted
    assert home.violations(tenant.org_id) == []


def test_prices_and_plans_are_for_everybody(home: Deployed) -> None:
    anybody = home.client()
    assert {plan["id"] for plan in success(anybody.get("/v1/plans")).json()["data"]} == {
        "free",
        "pro",
        "team",
        "enterprise",
    }
    book = success(anybody.get("/v1/price-book")).json()
    assert "gpt-5-mini" in str(book)
