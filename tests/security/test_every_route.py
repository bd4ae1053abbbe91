"""Generated from the OpenAPI document: no route without a caller, beyond a role, or with another tenant's ids."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from shared.identity.policy import OPERATOR_RULES, OPERATOR_SCOPES, SCOPES, Role, scopes_of
from shared.kernel import db
from shared.kernel.caller import Caller
from tests.api_gateway import Answer
from tests.emulator import Emulator
from tests.model_provider import Provider
from tests.people import joined
from tests.security.belongings import MARK, belongings_of
from tests.security.requests import PUBLIC, Route, routes, secured, with_value
from tests.services import Services

Call = Callable[..., Answer]
# The scopes of nobody but the operator, whose routes reach across tenants on purpose.
OPERATORS_OWN = set(OPERATOR_RULES) - SCOPES
TENANTS = [route for route in secured() if route.scope not in OPERATORS_OWN]


@dataclass(frozen=True, slots=True)
class World:
    """Two furnished orgs. `ours` and `theirs` are ids by prefix; a request may be right in all but one of them."""

    ours: dict[str, str]
    theirs: dict[str, str]
    # Whoever wants what is ours: the owner of the other org, with every scope that a tenant can have.
    intruder: Caller
    colleagues: dict[Role, Caller]


_furnished: dict[Path, World] = {}


@pytest.fixture
def world(
    services: Services, database: str, request: pytest.FixtureRequest, emulator: Emulator, provider: Provider
) -> World:
    """Furnished by the first test of this process that needs it; all later ones are given a copy."""
    kept = services.home.folder
    if kept not in _furnished:
        org, rival, call = (request.getfixturevalue(name) for name in ("org", "rival", "call"))
        colleagues = {role: joined(org, role) for role in Role}
        intruder = replace(joined(rival, Role.OWNER, name="Rival"), scopes=SCOPES)
        ours = belongings_of(call, colleagues[Role.OWNER], nickname="ours")
        theirs = belongings_of(call, intruder, nickname="theirs")
        db.close()
        services.copy(database, "furnished")
        _furnished[kept] = World(ours, theirs, intruder, colleagues)
    db.close()
    services.copy("furnished", database)
    return _furnished[kept]


def test_the_routes_that_need_no_caller_are_the_known_ones() -> None:
    assert {(route.method, route.path) for route in routes() if route.scope is None} == set(PUBLIC)


def test_every_scope_that_a_route_asks_for_can_be_given_and_every_scope_opens_something() -> None:
    assert {route.scope for route in secured()} == SCOPES | OPERATOR_SCOPES


def test_there_is_something_to_try_an_intruder_on_for_every_id_that_a_route_takes(world: World) -> None:
    for route in secured():
        prefixes = {*route.id_parameters.values(), *route.id_queries.values()} | {kind for _, kind in route.body_ids}
        assert prefixes <= world.ours.keys(), str(route)


@pytest.mark.parametrize("route", secured(), ids=str)
def test_without_a_caller_the_answer_is_401(route: Route, call: Call) -> None:
    answer = call(route.handler(), route.method, route.url({}), None, json=route.body())
    assert (answer.status, answer.error) == (401, "invalid_api_key")


@pytest.mark.parametrize("route", secured(), ids=str)
def test_without_its_scope_the_answer_is_403(route: Route, call: Call, org: Caller) -> None:
    lacking = replace(org, scopes=(SCOPES | OPERATOR_SCOPES) - {str(route.scope)})
    answer = call(route.handler(), route.method, route.url({}), lacking, json=route.body())
    assert (answer.status, answer.error) == (403, "insufficient_scope")


@pytest.mark.parametrize("route", secured(), ids=str)
def test_a_role_is_let_in_where_the_policy_says_and_nowhere_else(route: Route, call: Call, world: World) -> None:
    for role, caller in world.colleagues.items():
        answer = call(route.handler(), route.method, route.url({}), caller, json=route.body())
        refused = answer.status == 403 and answer.error == "insufficient_scope"
        assert refused is (route.scope not in scopes_of(role)), (role, answer.text)
        # 503 where the party that it needs is not there; never a fault of ours.
        assert answer.status != 500, (role, answer.text)


@pytest.mark.parametrize("route", [route for route in TENANTS if route.id_parameters], ids=str)
def test_another_tenants_things_do_not_exist(route: Route, call: Call, world: World) -> None:
    ours, theirs, intruder = world.ours, world.theirs, world.intruder
    own = {name: theirs[prefix] for name, prefix in route.id_parameters.items()}
    for name, prefix in route.id_parameters.items():
        answer = call(route.handler(), route.method, route.url(own | {name: ours[prefix]}), intruder, json=route.body())
        assert answer.status == 404, (name, answer.text)
        assert MARK not in answer.text


@pytest.mark.parametrize("route", [route for route in TENANTS if route.body_ids], ids=str)
def test_another_tenants_things_do_not_exist_in_a_body(route: Route, call: Call, world: World) -> None:
    ours, theirs, intruder = world.ours, world.theirs, world.intruder
    url = route.url({name: theirs[prefix] for name, prefix in route.id_parameters.items()})
    for place, prefix in route.body_ids:
        body = with_value(route.body(), place, ours[prefix])
        answer = call(route.handler(), route.method, url, intruder, json=body)
        assert answer.status in (400, 403, 404), (place, answer.text)
        assert MARK not in answer.text


@pytest.mark.parametrize("route", [route for route in TENANTS if route.id_queries], ids=str)
def test_another_tenants_things_do_not_exist_in_a_query(route: Route, call: Call, world: World) -> None:
    ours, theirs, intruder = world.ours, world.theirs, world.intruder
    url = route.url({name: theirs[prefix] for name, prefix in route.id_parameters.items()})
    for name, prefix in route.id_queries.items():
        answer = call(route.handler(), route.method, f"{url}?{name}={ours[prefix]}", intruder, json=route.body())
        assert answer.status < 500, (name, answer.text)
        assert f"{MARK} ours" not in answer.text


@pytest.mark.parametrize("route", [route for route in TENANTS if not route.id_parameters], ids=str)
def test_no_list_and_no_answer_brings_another_tenants_things_to_light(route: Route, call: Call, world: World) -> None:
    ours, intruder = world.ours, world.intruder
    body = route.body()
    answer = call(route.handler(), route.method, route.url({}), intruder, json=body)
    # The body is made of the examples in the OpenAPI document: they are right, whatever else is to be said.
    assert answer.status != 400, answer.text
    given = json.dumps(body)
    assert [shown for shown in ours.values() if shown in answer.text and shown not in given] == []
    assert f"{MARK} ours" not in answer.text
    assert f"{MARK}-ours" not in answer.text
