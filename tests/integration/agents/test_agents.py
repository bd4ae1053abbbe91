"""Agents over the API: each change of config is a version of its own."""

from collections.abc import Callable

import pytest

from functions.api.agents import handler as agents
from functions.api.audit import handler as audit
from shared.kernel.caller import Caller
from tests.api_gateway import Answer

Call = Callable[..., Answer]


def test_a_new_agent_has_defaults_and_version_one(call: Call, org: Caller) -> None:
    made = call(agents, "POST", "/v1/agents", org, json={"name": "Analyst"}).json
    assert made["object"] == "agent"
    assert made["version"] == 1
    assert "sandbox.exec" in made["config"]["tools"]
    assert call(agents, "GET", f"/v1/agents/{made['id']}", org).json == made


def test_a_changed_config_is_a_new_version_and_the_old_one_stays_as_it_was(call: Call, org: Caller) -> None:
    made = call(agents, "POST", "/v1/agents", org, json={"name": "A"}).json
    config = made["config"] | {"instructions": "Be brief."}
    changed = call(agents, "PATCH", f"/v1/agents/{made['id']}", org, json={"config": config}).json
    assert changed["version"] == 2
    assert changed["config"]["instructions"] == "Be brief."
    versions = call(agents, "GET", f"/v1/agents/{made['id']}/versions", org).json["data"]
    assert [each["version"] for each in versions] == [2, 1]
    assert versions[1]["config"] == made["config"]


def test_a_change_of_name_or_of_nothing_makes_no_version(call: Call, org: Caller) -> None:
    made = call(agents, "POST", "/v1/agents", org, json={"name": "A", "metadata": {"a": "1"}}).json
    for body in ({"name": "B"}, {}, {"config": made["config"]}):
        changed = call(agents, "PATCH", f"/v1/agents/{made['id']}", org, json=body).json
        assert changed["version"] == 1
    assert changed["name"] == "B"
    assert changed["metadata"] == {"a": "1"}


def test_versions_come_in_pages(call: Call, org: Caller) -> None:
    made = call(agents, "POST", "/v1/agents", org, json={"name": "A"}).json
    for steps in range(1, 5):
        config = made["config"] | {"max_steps": steps}
        call(agents, "PATCH", f"/v1/agents/{made['id']}", org, json={"config": config})
    first = call(agents, "GET", f"/v1/agents/{made['id']}/versions?limit=3", org).json
    assert [each["version"] for each in first["data"]] == [5, 4, 3]
    rest = call(agents, "GET", f"/v1/agents/{made['id']}/versions?limit=3&cursor={first['next_cursor']}", org).json
    assert [each["version"] for each in rest["data"]] == [2, 1]
    assert not rest["has_more"]


@pytest.mark.parametrize(
    "config",
    [
        {"tools": ["no.such"]},
        {"max_steps": 0},
        {"max_steps": 201},
        {"timeout_s": 9},
        {"budget_microusd": 0},
        {"budget_microusd": 10**12},
        {"instructions": "x" * 100_001},
    ],
)
def test_a_config_beyond_the_bounds_is_refused(call: Call, org: Caller, config: dict[str, object]) -> None:
    assert call(agents, "POST", "/v1/agents", org, json={"name": "A", "config": config}).status == 400


def test_creating_and_changing_is_in_the_audit_trail(call: Call, org: Caller) -> None:
    made = call(agents, "POST", "/v1/agents", org, json={"name": "A"}).json
    call(agents, "PATCH", f"/v1/agents/{made['id']}", org, json={"name": "B"})
    events = call(audit, "GET", f"/v1/audit-events?resource_id={made['id']}", org).json["data"]
    assert [(event["action"], event["new"]["name"]) for event in events] == [
        ("agent.update", "B"),
        ("agent.create", "A"),
    ]
    assert events[0]["old"] == {"name": "A", "version": 1}
