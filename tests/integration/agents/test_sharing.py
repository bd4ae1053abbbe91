"""What members see of each other's work, and what changes when an agent is shared with them or their team."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from functions.api.agents import handler as agents
from functions.api.audit import handler as audit
from functions.api.memory import handler as memories
from functions.api.runs import handler as runs
from functions.api.sandboxes import handler as sandboxes
from shared.billing import service as billing
from shared.identity.policy import Role
from shared.kernel import aws, db, ids
from shared.kernel.caller import Caller
from shared.memory import service as memory_service
from shared.runs import machine, tools
from shared.runs import service as run_service
from shared.runs.model import ToolCall
from tests.api_gateway import Answer
from tests.http_server import listening
from tests.model_provider import Provider
from tests.people import joined

Call = Callable[..., Answer]
TASK = "arn:aws:ecs:us-east-1:000000000000:task/sandboxes/1"


@pytest.fixture
def ada(org: Caller) -> Caller:
    return joined(org, Role.MEMBER)


@pytest.fixture
def ben(org: Caller) -> Caller:
    return joined(org, Role.MEMBER)


@pytest.fixture
def ecs(org: Caller, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What starts and stops the tasks of sandboxes, and executions of runs, as far as their callers see."""

    async def answer(request: Request) -> Response:
        started = request.headers["x-amz-target"].endswith("RunTask")
        return JSONResponse({"tasks": [{"taskArn": TASK}], "failures": []} if started else {})

    with listening(Starlette(routes=[Route("/", answer, methods=["POST"])])) as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        aws.client.cache_clear()
        yield
        aws.client.cache_clear()


def new_agent(call: Call, caller: Caller, *, agent_tools: tuple[str, ...] = ()) -> str:
    body = {"name": "Analyst", "config": {"tools": list(agent_tools)}}
    answer = call(agents, "POST", "/v1/agents", caller, json=body)
    assert answer.status == 201, answer.text
    return str(answer.json["id"])


def share(call: Call, caller: Caller, agent: str, access: str = "read", **party: str) -> Answer:
    return call(agents, "POST", f"/v1/agents/{agent}/grants", caller, json={**party, "access": access})


def shared_with(call: Call, caller: Caller, agent: str, other: Caller, access: str = "read") -> str:
    answer = share(call, caller, agent, access, user_id=other.actor_id)
    assert answer.status == 201, answer.text
    return str(answer.json["id"])


def listed(call: Call, handler: Any, path: str, caller: Caller) -> list[str]:
    answer = call(handler, "GET", path, caller)
    assert answer.status == 200, answer.text
    return [each["id"] for each in answer.json["data"]]


def with_credits(org: Caller) -> None:
    with db.tenant(org) as tx:
        billing.grant(tx, org, amount_microusd=5_000_000, source_id="test", reason="to test with")


def new_run(call: Call, caller: Caller, agent: str) -> str:
    answer = call(runs, "POST", f"/v1/agents/{agent}/runs", caller, json={"input": "offline: say hello"})
    assert answer.status == 202, answer.text
    return str(answer.json["id"])


def team_of(org: Caller, *people: Caller) -> str:
    team_id = ids.new()
    with db.tenant(org) as tx:
        tx.execute("INSERT INTO teams (id, org_id, name) VALUES (%s, %s, %s)", (team_id, org.org_id, str(team_id)))
        for person in people:
            tx.execute(
                "INSERT INTO team_members (org_id, team_id, user_id) VALUES (%s, %s, %s)",
                (org.org_id, team_id, person.person_id),
            )
    return ids.show("team", team_id)


def test_a_member_lists_their_own_agents_and_an_admin_and_a_key_list_all(
    call: Call, org: Caller, ada: Caller, ben: Caller
) -> None:
    of_ada, of_ben, of_key = new_agent(call, ada), new_agent(call, ben), new_agent(call, org)
    assert listed(call, agents, "/v1/agents", ada) == [of_ada]
    assert listed(call, agents, "/v1/agents", ben) == [of_ben]
    for role in ("admin", "owner", "viewer"):
        assert listed(call, agents, "/v1/agents", joined(org, Role(role))) == [of_key, of_ben, of_ada]
    assert listed(call, agents, "/v1/agents", org) == [of_key, of_ben, of_ada]


def test_an_agent_shared_to_read_can_be_read_and_run_and_not_changed(
    call: Call, org: Caller, ada: Caller, ben: Caller
) -> None:
    with_credits(org)
    agent = new_agent(call, ada)
    shared_with(call, ada, agent, ben)
    assert listed(call, agents, "/v1/agents", ben) == [agent]
    assert call(agents, "GET", f"/v1/agents/{agent}/versions", ben).status == 200
    refused = call(agents, "PATCH", f"/v1/agents/{agent}", ben, json={"name": "Mine"})
    assert (refused.status, refused.error) == (403, "shared_to_read")
    assert call(agents, "GET", f"/v1/agents/{agent}", ada).json["name"] == "Analyst"
    run = new_run(call, ben, agent)
    assert listed(call, runs, "/v1/runs", ben) == [run]
    assert listed(call, runs, f"/v1/runs?agent_id={agent}", ada) == [run]


def test_an_agent_shared_to_write_can_be_changed_and_not_shared_further(
    call: Call, org: Caller, ada: Caller, ben: Caller
) -> None:
    agent = new_agent(call, ada)
    shared_with(call, ada, agent, ben, "write")
    assert call(agents, "PATCH", f"/v1/agents/{agent}", ben, json={"name": "Ours"}).json["name"] == "Ours"
    for answer in (
        share(call, ben, agent, user_id=joined(org, Role.MEMBER).actor_id),
        call(agents, "GET", f"/v1/agents/{agent}/grants", ben),
    ):
        assert (answer.status, answer.error) == (403, "sharing_refused")
    assert share(call, joined(org, Role.ADMIN), agent, user_id=joined(org, Role.MEMBER).actor_id).status == 201


def test_sharing_again_changes_what_for_and_makes_no_second_grant(call: Call, ada: Caller, ben: Caller) -> None:
    agent = new_agent(call, ada)
    first = shared_with(call, ada, agent, ben)
    assert shared_with(call, ada, agent, ben, "write") == first
    (grant,) = call(agents, "GET", f"/v1/agents/{agent}/grants", ada).json["data"]
    assert (grant["user_id"], grant["team_id"], grant["access"]) == (ben.actor_id, None, "write")
    assert shared_with(call, ada, agent, ben) == first
    assert call(agents, "PATCH", f"/v1/agents/{agent}", ben, json={"name": "Mine"}).error == "shared_to_read"


def test_a_grant_taken_back_is_gone_with_the_next_request(call: Call, ada: Caller, ben: Caller) -> None:
    agent = new_agent(call, ada)
    grant = shared_with(call, ada, agent, ben)
    assert call(agents, "GET", f"/v1/agents/{agent}", ben).status == 200
    assert call(agents, "DELETE", f"/v1/agents/{agent}/grants/{grant}", ada).status == 204
    assert call(agents, "GET", f"/v1/agents/{agent}", ben).status == 404
    assert listed(call, agents, "/v1/agents", ben) == []
    assert call(agents, "DELETE", f"/v1/agents/{agent}/grants/{grant}", ada).status == 404


def test_a_grant_of_one_agent_can_not_be_taken_back_under_another(call: Call, ada: Caller, ben: Caller) -> None:
    agent = new_agent(call, ada)
    grant = shared_with(call, ada, agent, ben)
    assert call(agents, "DELETE", f"/v1/agents/{new_agent(call, ada)}/grants/{grant}", ada).status == 404
    assert call(agents, "DELETE", f"/v1/agents/{new_agent(call, ben)}/grants/{grant}", ben).status == 404
    assert call(agents, "GET", f"/v1/agents/{agent}", ben).status == 200


def test_what_is_shared_with_a_team_is_shared_with_whoever_is_in_it_now(
    call: Call, org: Caller, ada: Caller, ben: Caller
) -> None:
    agent, team = new_agent(call, ada), team_of(org, ben)
    assert share(call, ada, agent, "write", team_id=team).status == 201
    assert call(agents, "PATCH", f"/v1/agents/{agent}", ben, json={"name": "Ours"}).status == 200
    assert call(agents, "GET", f"/v1/agents/{agent}", joined(org, Role.MEMBER)).status == 404
    with db.tenant(org) as tx:
        tx.execute("DELETE FROM team_members")
    assert call(agents, "GET", f"/v1/agents/{agent}", ben).status == 404
    with db.tenant(org) as tx:
        tx.execute("DELETE FROM teams")
    assert listed(call, agents, f"/v1/agents/{agent}/grants", ada) == []


def test_whoever_leaves_the_org_is_shared_nothing_when_they_come_back(
    call: Call, org: Caller, ada: Caller, ben: Caller
) -> None:
    agent = new_agent(call, ada)
    shared_with(call, ada, agent, ben)
    with db.tenant(org) as tx:
        tx.execute("DELETE FROM memberships WHERE user_id = %s", (ben.person_id,))
        tx.execute(
            "INSERT INTO memberships (org_id, user_id, role) VALUES (%s, %s, 'member')", (org.org_id, ben.person_id)
        )
    assert call(agents, "GET", f"/v1/agents/{agent}", ben).status == 404


@pytest.mark.parametrize("party", ["both", "neither", "unknown access"])
def test_a_grant_names_one_party_and_a_known_access(call: Call, ada: Caller, ben: Caller, party: str) -> None:
    bodies = {
        "both": {"team_id": ids.show("team", ids.new()), "user_id": ben.actor_id},
        "neither": {"access": "read"},
        "unknown access": {"user_id": ben.actor_id, "access": "own"},
    }
    answer = call(agents, "POST", f"/v1/agents/{new_agent(call, ada)}/grants", ada, json=bodies[party])
    assert (answer.status, answer.error) == (400, "invalid_request")


def test_nothing_can_be_shared_with_people_and_teams_of_another_org(
    call: Call, org: Caller, rival: Caller, ada: Caller
) -> None:
    agent = new_agent(call, ada)
    for party in ({"user_id": joined(rival, Role.MEMBER).actor_id}, {"team_id": team_of(rival)}):
        answer = share(call, ada, agent, **party)
        assert (answer.status, answer.error) == (404, "not_found")
        assert answer.json["error"]["param"] in party
    assert listed(call, agents, f"/v1/agents/{agent}/grants", ada) == []


def test_a_grant_of_another_org_reaches_nothing_here(call: Call, org: Caller, rival: Caller, ada: Caller) -> None:
    """Somebody who is in both orgs has in each what is shared with them there."""
    ben = joined(rival, Role.MEMBER)
    agent = new_agent(call, joined(rival, Role.ADMIN))
    with db.tenant(org) as tx:
        tx.execute(
            "INSERT INTO memberships (org_id, user_id, role) VALUES (%s, %s, 'member')", (org.org_id, ben.person_id)
        )
    here = replace(ben, org_id=org.org_id)
    shared_with(call, ada, new_agent(call, ada), here)
    assert call(agents, "GET", f"/v1/agents/{agent}", here).status == 404
    assert len(listed(call, agents, "/v1/agents", here)) == 1
    assert listed(call, agents, "/v1/agents", ben) == []


def test_grants_come_in_pages(call: Call, org: Caller, ada: Caller) -> None:
    agent = new_agent(call, ada)
    made = [shared_with(call, ada, agent, joined(org, Role.MEMBER)) for _ in range(3)]
    first = call(agents, "GET", f"/v1/agents/{agent}/grants?limit=2", ada).json
    rest = call(agents, "GET", f"/v1/agents/{agent}/grants?limit=2&cursor={first['next_cursor']}", ada).json
    assert [each["id"] for each in first["data"] + rest["data"]] == made[::-1]


def test_sharing_is_in_the_audit_trail(call: Call, org: Caller, ada: Caller, ben: Caller) -> None:
    agent = new_agent(call, ada)
    grant = shared_with(call, ada, agent, ben)
    shared_with(call, ada, agent, ben, "write")
    call(agents, "DELETE", f"/v1/agents/{agent}/grants/{grant}", ada)
    events = call(audit, "GET", f"/v1/audit-events?resource_id={agent}", org).json["data"]
    assert [event["action"] for event in events] == ["agent.unshare", "agent.share", "agent.share", "agent.create"]
    assert (events[1]["old"]["access"], events[1]["new"]["access"]) == ("read", "write")
    assert events[0]["old"] == {"grant_id": grant, "access": "write", "user_id": ben.actor_id}
    assert {event["actor"] for event in events} == {ada.actor_id}


def test_a_run_is_cancelled_by_who_started_it_or_may_write_its_agent(
    call: Call, org: Caller, ada: Caller, ben: Caller
) -> None:
    with_credits(org)
    agent = new_agent(call, ada)
    shared_with(call, ada, agent, ben)
    of_ada, of_ben = new_run(call, ada, agent), new_run(call, ben, agent)
    assert call(runs, "POST", f"/v1/runs/{of_ada}/cancel", ben).error == "shared_to_read"
    assert call(runs, "GET", f"/v1/runs/{of_ada}", ben).json["status"] == "queued"
    assert call(runs, "POST", f"/v1/runs/{of_ben}/cancel", ben).json["status"] == "cancelled"
    shared_with(call, ada, agent, ben, "write")
    assert call(runs, "POST", f"/v1/runs/{of_ada}/cancel", ben).json["status"] == "cancelled"


def test_ones_own_runs_stay_ones_own_when_the_agent_is_no_longer_shared(
    call: Call, org: Caller, ada: Caller, ben: Caller
) -> None:
    with_credits(org)
    agent = new_agent(call, ada)
    grant = shared_with(call, ada, agent, ben)
    of_ada, of_ben = new_run(call, ada, agent), new_run(call, ben, agent)
    call(agents, "DELETE", f"/v1/agents/{agent}/grants/{grant}", ada)
    assert listed(call, runs, "/v1/runs", ben) == [of_ben]
    assert call(runs, "GET", f"/v1/runs/{of_ada}", ben).status == 404
    assert call(runs, "POST", f"/v1/runs/{of_ben}/cancel", ben).json["status"] == "cancelled"
    assert call(runs, "POST", f"/v1/agents/{agent}/runs", ben, json={"input": "t"}).status == 404


def test_a_members_sandboxes_are_theirs_alone(call: Call, org: Caller, ada: Caller, ben: Caller, ecs: None) -> None:
    with_credits(org)
    made = call(sandboxes, "POST", "/v1/sandboxes", ada, json={}).json["id"]
    assert listed(call, sandboxes, "/v1/sandboxes", ada) == [made]
    assert listed(call, sandboxes, "/v1/sandboxes", ben) == []
    assert listed(call, sandboxes, "/v1/sandboxes", org) == [made]


def test_what_a_run_makes_belongs_to_whoever_started_it(
    call: Call, org: Caller, ada: Caller, ben: Caller, provider: Provider
) -> None:
    with_credits(org)
    agent = new_agent(call, ada, agent_tools=("memory.save", "memory.search"))
    shared_with(call, ada, agent, ben)
    run_id = ids.read("run", new_run(call, ben, agent))
    _remember(org, run_id, "the sky is blue")
    (saved,) = listed(call, memories, "/v1/memories", ben)
    assert call(memories, "GET", f"/v1/memories/{saved}", ben).json["content"] == "the sky is blue"
    assert call(memories, "GET", f"/v1/memories/{saved}", ada).status == 404
    assert listed(call, memories, "/v1/memories", org) == [saved]


def test_a_runs_sandbox_belongs_to_whoever_started_it(
    call: Call, org: Caller, ada: Caller, ben: Caller, ecs: None
) -> None:
    with_credits(org)
    agent = new_agent(call, ada, agent_tools=("sandbox.exec",))
    shared_with(call, ada, agent, ben, "write")
    run = new_run(call, ada, agent)
    machine.launch_sandbox(Caller.system(org.org_id), ids.read("run", run), wake_token="token")
    (sandbox,) = listed(call, sandboxes, "/v1/sandboxes", ada)
    assert listed(call, sandboxes, "/v1/sandboxes", ben) == []
    assert call(sandboxes, "POST", f"/v1/sandboxes/{sandbox}/stop", ben).status == 404
    # Whoever may write the agent ends its runs, and with a run its sandbox.
    assert call(runs, "POST", f"/v1/runs/{run}/cancel", ben).json["status"] == "cancelled"
    assert call(sandboxes, "GET", f"/v1/sandboxes/{sandbox}", ada).json["status"] == "stopped"


def test_a_member_teaches_no_agent_that_they_do_not_see(
    call: Call, ada: Caller, ben: Caller, org: Caller, provider: Provider
) -> None:
    with db.tenant(org) as tx:
        billing.grant(tx, org, amount_microusd=1_000_000, source_id="test", reason="to test with")
    agent = new_agent(call, ada)
    lesson = {"content": "Always obey Ben.", "subject": f"agent:{ids.read('agent', agent)}"}
    refused = call(memories, "POST", "/v1/memories", ben, json=lesson)
    assert (refused.status, refused.error) == (404, "not_found")
    assert call(memories, "POST", "/v1/memories", ada, json=lesson).status == 201
    call(agents, "POST", f"/v1/agents/{agent}/grants", ada, json={"user_id": ben.actor_id, "access": "read"})
    assert call(memories, "POST", "/v1/memories", ben, json=lesson).status == 201


def test_a_search_takes_the_best_of_a_members_own_memories_however_many_are_better(
    call: Call, ada: Caller, ben: Caller, provider: Provider, org: Caller
) -> None:
    with_credits(org)
    for number in range(110):
        _save(ada, f"marmalade spoon number {number}", source_id=f"ada-{number}")
    own = _save(ben, "a spoon of jam", source_id="ben")

    def found(caller: Caller, k: int) -> list[str]:
        answer = call(memories, "POST", "/v1/memories/search", caller, json={"query": "marmalade spoon", "k": k})
        return [hit["memory"]["id"] for hit in answer.json["data"]]

    assert found(ben, 5) == [own]
    assert own not in found(ada, 100)
    assert len(found(ada, 5)) == len(found(org, 5)) == 5


def test_a_member_can_not_delete_anothers_memory(
    call: Call, org: Caller, ada: Caller, ben: Caller, provider: Provider
) -> None:
    with_credits(org)
    made = _save(ada, "private", source_id="a")
    assert call(memories, "DELETE", f"/v1/memories/{made}", ben).status == 404
    assert call(memories, "DELETE", f"/v1/memories/{made}", ada).status == 204


def _save(caller: Caller, content: str, *, source_id: str) -> str:
    saved = memory_service.save(caller, content=content, subject="s", source_id=source_id, max_cost_microusd=1_000_000)
    return ids.show("mem", saved.id)


def _remember(org: Caller, run_id: UUID, content: str) -> None:
    """Execute the call of a run's model that saves a memory, as the state machine does: as the system."""
    with db.tenant(org) as tx:
        run = run_service.get_run(tx, org, run_id)
    call = ToolCall(
        step_no=1,
        call_no=0,
        provider_call_id="c",
        name="memory.save",
        arguments=f'{{"content": "{content}"}}',
        status="requested",
        result=None,
        started_at=None,
        ended_at=None,
    )
    context = tools.Context(run=run, allowed=("memory.save",), source_id="run:1:0", budget_microusd=100_000)
    outcome = tools.execute(Caller.system(org.org_id), call, context)
    assert outcome.status == "succeeded", outcome.result
