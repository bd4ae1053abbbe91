"""Generated from the OpenAPI document: a member reaches their own things and those shared with them, by every route."""

import json
from collections.abc import Callable
from itertools import product

import pytest

from shared.agents import service as agents
from shared.agents.model import Access
from shared.agents.schemas import Config
from shared.billing import service as billing
from shared.identity.policy import Role, scopes_of
from shared.kernel import db, ids
from shared.kernel.caller import Caller
from shared.memory import service as memories
from shared.runs import service as runs
from shared.sandboxes import service as sandboxes
from shared.sandboxes import store as sandbox_store
from tests.api_gateway import Answer
from tests.model_provider import Provider
from tests.people import joined
from tests.security.requests import Route, secured, with_value

Call = Callable[..., Answer]
# The ids of what belongs to whoever made it. Where an agent is shared, so are its runs.
OWN = {"agent", "cmd", "mem", "run", "sbx"}
SHARED = {"agent", "run"}
THEIRS = [route for route in secured() if set(route.id_parameters.values()) & OWN]
OF_AGENTS = [route for route in secured() if set(route.id_parameters.values()) & SHARED]
# Who may change an agent does not therefore say with whom it is shared.
SHARING = [route for route in OF_AGENTS if "grants" in route.path]
ELSEWHERE = [route for route in secured() if not set(route.id_parameters.values()) & OWN]


class Belongings:
    """One thing of every kind that belongs to one person."""

    def __init__(self, person: Caller) -> None:
        with db.tenant(person) as tx:
            billing.grant(tx, person, amount_microusd=10_000_000, source_id="test", reason="to test with")
            agent = agents.create_agent(tx, person, name="A", config=Config().to_model(), metadata={})
            run = runs.create_run(
                tx, person, agent_id=agent.id, text="t", budget_microusd=None, timeout_s=None, metadata={}
            )
            sandbox = sandboxes.create(tx, person, ttl_s=60, metadata={})
            command = sandbox_store.insert_command(
                tx, command_id=ids.new(), sandbox_id=sandbox.id, source_id="s", command={"shell": "true"}
            )
            assert command is not None
            grant = agents.share_agent(tx, person, agent.id, team_id=None, user_id=person.person_id, access=Access.READ)
        memory = memories.save(
            person, content="a secret", subject="person:ada", source_id="m", max_cost_microusd=1_000_000
        )
        self.agent_id = agent.id
        self.ids = {
            "agent": ids.show("agent", agent.id),
            "run": ids.show("run", run.id),
            "sbx": ids.show("sbx", sandbox.id),
            "cmd": ids.show("cmd", command.id),
            "mem": ids.show("mem", memory.id),
            "grant": ids.show("grant", grant.id),
        }
        self.person = person.actor_id

    def share(self, owner: Caller, other: Caller, access: Access) -> None:
        with db.tenant(owner) as tx:
            agents.share_agent(tx, owner, self.agent_id, team_id=None, user_id=other.person_id, access=access)


@pytest.fixture
def owner(org: Caller) -> Caller:
    return joined(org, Role.MEMBER)


@pytest.fixture
def belongings(owner: Caller, provider: Provider) -> Belongings:
    return Belongings(owner)


def ask(call: Call, route: Route, caller: Caller, belongings: Belongings) -> Answer:
    named = {name: belongings.ids[prefix] for name, prefix in route.id_parameters.items()}
    body = route.body()
    for place, kind in route.body_ids:
        body = with_value(body, place, belongings.person) if kind == "user" else body
    return call(route.handler(), route.method, route.url(named), caller, json=body)


def test_there_is_something_of_every_kind_to_try() -> None:
    assert {prefix for route in THEIRS for prefix in route.id_parameters.values()} == OWN | {"grant"}
    assert SHARING


@pytest.mark.parametrize("route", THEIRS, ids=str)
def test_anothers_things_do_not_exist_for_a_member_and_do_for_who_sees_all_of_the_org(
    route: Route, call: Call, org: Caller, belongings: Belongings
) -> None:
    as_member = ask(call, route, joined(org, Role.MEMBER), belongings)
    assert (as_member.status, as_member.error) == (404, "not_found"), as_member.text
    assert "secret" not in as_member.text
    as_viewer = ask(call, route, joined(org, Role.VIEWER), belongings)
    if route.scope in scopes_of(Role.VIEWER):
        assert _found(as_viewer), as_viewer.text
    else:
        assert (as_viewer.status, as_viewer.error) == (403, "insufficient_scope")
    assert _found(as_admin := ask(call, route, joined(org, Role.ADMIN), belongings)), as_admin.text


@pytest.mark.parametrize("route", THEIRS, ids=str)
def test_they_do_for_whoever_made_them(route: Route, call: Call, owner: Caller, belongings: Belongings) -> None:
    assert _found(ask(call, route, owner, belongings))


@pytest.mark.parametrize("route", OF_AGENTS, ids=str)
def test_an_agent_shared_to_read_can_be_seen_and_run_and_not_changed(
    route: Route, call: Call, org: Caller, owner: Caller, belongings: Belongings
) -> None:
    other = joined(org, Role.MEMBER)
    belongings.share(owner, other, Access.READ)
    answer = ask(call, route, other, belongings)
    if route in SHARING:
        assert (answer.status, answer.error) == (403, "sharing_refused")
    elif route.method == "GET" or route.path.endswith("/runs"):
        assert _found(answer)
    else:
        assert (answer.status, answer.error) == (403, "shared_to_read")


@pytest.mark.parametrize("route", OF_AGENTS, ids=str)
def test_an_agent_shared_to_write_can_be_changed_and_not_shared_further(
    route: Route, call: Call, org: Caller, owner: Caller, belongings: Belongings
) -> None:
    other = joined(org, Role.MEMBER)
    belongings.share(owner, other, Access.WRITE)
    answer = ask(call, route, other, belongings)
    if route in SHARING:
        assert (answer.status, answer.error) == (403, "sharing_refused")
    else:
        assert _found(answer)


def test_no_list_no_body_and_no_query_brings_anothers_things_to_light(
    call: Call, org: Caller, belongings: Belongings
) -> None:
    for route in ELSEWHERE:
        url = route.url({"org_id": ids.show("org", org.org_id)})
        bodies = [route.body()]
        bodies += [with_value(bodies[0], place, belongings.ids[kind]) for place, kind in route.body_ids if kind in OWN]
        urls = [url]
        urls += [f"{url}?{name}={belongings.ids[kind]}" for name, kind in route.id_queries.items() if kind in OWN]
        for body, asked in product(bodies, urls):
            answer = call(route.handler(), route.method, asked, joined(org, Role.MEMBER), json=body)
            given = f"{json.dumps(body)} {asked}"
            told = [shown for shown in belongings.ids.values() if shown in answer.text and shown not in given]
            assert told == [], str(route)
            assert "a secret" not in answer.text, str(route)


def _found(answer: Answer) -> bool:
    """Whether the thing was there and might be used: whatever else there is to say of the state it is in."""
    return answer.status not in (401, 403, 404)
