"""Generated from the OpenAPI document: no route without a key, without its scope, or with another tenant's ids."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

import pytest

from shared.agents import service as agents
from shared.agents.schemas import Config
from shared.billing import service as billing
from shared.identity import service as identity
from shared.identity.policy import KEY_SCOPES, OPERATOR_SCOPES
from shared.kernel import db, ids
from shared.kernel.caller import Caller
from shared.memory import service as memories
from shared.runs import service as runs
from shared.sandboxes import service as sandboxes
from shared.sandboxes import store as sandbox_store
from tests.api_gateway import Answer
from tests.model_provider import Provider
from tests.security.requests import PUBLIC, Route, mentions, routes, secured

Call = Callable[..., Answer]
IDS = ("agent_id", "command_id", "key_id", "memory_id", "org_id", "run_id", "sandbox_id")
# Lists and things of the caller's own answer a rival with what is the rival's; everything else with 404.
OWN = {"GET", "POST"}


@dataclass(frozen=True, slots=True)
class Belongings:
    """One thing of every kind that belongs to a tenant, by the name of its parameter."""

    ids: dict[str, str]


@pytest.fixture
def belongings(org: Caller, provider: Provider) -> Belongings:
    with db.tenant(org) as tx:
        billing.grant(tx, org, amount_microusd=10_000_000, source_id="test", reason="to test with")
        agent = agents.create_agent(tx, org, name="A", config=Config().to_model(), metadata={})
        run = runs.create_run(tx, org, agent_id=agent.id, text="t", budget_microusd=None, timeout_s=None, metadata={})
        key, _ = identity.create_key(tx, org, name="K", scopes=None, expires_at=None, metadata={})
        sandbox = sandboxes.create(tx, org, ttl_s=60, metadata={})
        command = sandbox_store.insert_command(
            tx, command_id=ids.new(), sandbox_id=sandbox.id, source_id="s", command={"shell": "true"}
        )
        assert command is not None
    memory = memories.save(org, content="a secret", subject="s", source_id="m", max_cost_microusd=1_000_000)
    found: dict[str, tuple[str, UUID]] = {
        "agent_id": ("agent", agent.id),
        "run_id": ("run", run.id),
        "key_id": ("key", key.id),
        "sandbox_id": ("sbx", sandbox.id),
        "command_id": ("cmd", command.id),
        "memory_id": ("mem", memory.id),
        "org_id": ("org", org.org_id),
    }
    return Belongings({name: ids.show(*value) for name, value in found.items()})


def test_the_routes_that_need_no_key_are_the_known_ones() -> None:
    assert {(route.method, route.path) for route in routes() if route.scope is None} == set(PUBLIC)


def test_every_scope_that_a_route_asks_for_can_be_given() -> None:
    assert {route.scope for route in secured()} <= OPERATOR_SCOPES
    assert {route.scope for route in secured()} >= KEY_SCOPES


def test_every_parameter_that_names_a_thing_has_something_to_try_a_rival_on() -> None:
    parameters = {name for route in routes() for name in route.parameters}
    assert parameters - {"path"} <= set(IDS)


@pytest.mark.parametrize("route", secured(), ids=str)
def test_without_a_key_the_answer_is_401(route: Route, call: Call) -> None:
    answer = call(route.handler(), route.method, route.url({}), None, json=route.body())
    assert (answer.status, answer.error) == (401, "invalid_api_key")


@pytest.mark.parametrize("route", secured(), ids=str)
def test_without_its_scope_the_answer_is_403(route: Route, call: Call, org: Caller) -> None:
    lacking = replace(org, scopes=OPERATOR_SCOPES - {str(route.scope)})
    answer = call(route.handler(), route.method, route.url({}), lacking, json=route.body())
    assert (answer.status, answer.error) == (403, "insufficient_scope")


@pytest.mark.parametrize("route", [route for route in secured() if set(route.parameters) & set(IDS)], ids=str)
def test_another_tenants_things_do_not_exist(route: Route, call: Call, rival: Caller, belongings: Belongings) -> None:
    full = replace(rival, scopes=OPERATOR_SCOPES)
    answer = call(route.handler(), route.method, route.url(belongings.ids), full, json=route.body())
    assert answer.status == 404, answer.text
    assert "secret" not in answer.text


@pytest.mark.parametrize("route", [route for route in secured() if not set(route.parameters) & set(IDS)], ids=str)
def test_no_list_and_no_body_brings_another_tenants_things_to_light(
    route: Route, call: Call, rival: Caller, belongings: Belongings
) -> None:
    body, query = _with_ids(route, belongings)
    answer = call(route.handler(), route.method, f"{route.url({})}{query}", rival, json=body)
    # The body is made of the examples in the OpenAPI document: they are right, whatever else is to be said.
    assert answer.status != 400 or query, answer.text
    given = json.dumps(body) + query
    leaked = [shown for shown in mentions(answer.json, list(belongings.ids.values())) if shown not in given]
    assert leaked == []
    assert "a secret" not in answer.text


def _with_ids(route: Route, belongings: Belongings) -> tuple[Any, str]:
    """Return body and query with another tenant's ids wherever the route takes an id."""
    body = route.body()
    if isinstance(body, dict):
        body |= {name: shown for name, shown in belongings.ids.items() if name in body}
    names = {parameter["name"] for parameter in route.operation.get("parameters", ()) if parameter["in"] == "query"}
    query = "&".join(f"{name}={shown}" for name, shown in belongings.ids.items() if name in names)
    return body, f"?{query}" if query else ""
