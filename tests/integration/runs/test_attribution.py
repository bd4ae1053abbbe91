"""Whose use it is: what a run and its sandbox use is their agent's, and of the person or key that started them."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import pytest
from botocore.exceptions import EndpointConnectionError

from shared.billing import service as billing
from shared.identity.policy import Role
from shared.inference import service as inference
from shared.inference.model import ChatRequest
from shared.kernel import clock, db, ids
from shared.kernel.caller import Caller
from shared.kernel.pagination import Slice
from shared.memory import service as memories
from shared.runs import machine
from shared.runs import service as runs
from shared.sandboxes import service as sandboxes
from shared.sandboxes import store as sandbox_store
from shared.sandboxes.model import SandboxStatus, StopReason
from shared.usage import service as usage
from shared.usage.model import UsageEvent, UsageKind
from tests.integration.runs.test_machine import asks_for_memory, drive
from tests.model_provider import Provider
from tests.people import joined


def events(caller: Caller) -> list[UsageEvent]:
    with db.tenant(caller) as tx:
        return usage.list_events(tx, Slice())


def whose(found: list[UsageEvent]) -> set[tuple[str, str, str]]:
    named = [event.dimensions for event in found]
    return {(each.get("agent_id", ""), each.get("person_id", ""), each.get("key_id", "")) for each in named}


def agent_of(caller: Caller, run_id: UUID) -> str:
    with db.tenant(caller) as tx:
        return ids.show("agent", runs.get_run(tx, caller, run_id).agent_id)


def started_by(caller: Caller, run_id: UUID) -> UUID:
    """Return a new run of the same agent, started by this caller."""
    with db.tenant(caller) as tx:
        agent_id = runs.get_run(tx, Caller.system(caller.org_id), run_id).agent_id
        run = runs.create_run(
            tx, caller, agent_id=agent_id, text="offline: say hi", budget_microusd=None, timeout_s=None, metadata={}
        )
    return run.id


def test_all_that_a_run_uses_is_its_agents_and_its_keys(
    org: Caller, queued: Callable[..., UUID], provider: Provider
) -> None:
    run_id = queued("offline: say remembered")
    asks_for_memory(provider, '{"content": "Tea at four."}')
    drive(Caller.system(org.org_id), run_id)
    found = events(org)
    assert whose(found) == {(agent_of(org, run_id), "", org.actor_id)}
    assert {event.kind for event in found} >= {UsageKind.TOKENS_OUTPUT, UsageKind.MEMORY_OPERATIONS}
    assert {event.dimensions.get("operation") for event in found} >= {"chat", "embeddings", "save"}


def test_what_a_persons_run_uses_is_the_persons(org: Caller, queued: Callable[..., UUID], provider: Provider) -> None:
    owner = joined(org, Role.OWNER)
    run_id = started_by(owner, queued("unused"))
    drive(Caller.system(org.org_id), run_id)
    assert whose(events(org)) == {(agent_of(org, run_id), owner.actor_id, "")}


def test_what_is_asked_of_a_model_directly_is_the_keys_or_the_persons(org: Caller, provider: Provider) -> None:
    with db.tenant(org) as tx:
        billing.grant(tx, org, amount_microusd=10_000_000, source_id="test", reason="test")
    member = joined(org, Role.MEMBER)
    for number, caller in enumerate((org, member)):
        request = ChatRequest(messages=[{"role": "user", "content": "offline: say hi"}])
        inference.complete(caller, request=request, source_id=f"c{number}", max_cost_microusd=None)
        memories.save(caller, content="x", subject="s", source_id=f"m{number}", max_cost_microusd=None)
    assert whose(events(org)) == {("", "", org.actor_id), ("", member.actor_id, "")}


def test_every_event_carries_the_price_it_was_worked_out_with(
    org: Caller, queued: Callable[..., UUID], provider: Provider
) -> None:
    drive(org, queued("offline: say hello"))
    found = events(org)
    prices = billing.token_price("runyard-offline", at=clock.now())
    assert {event.kind: event.unit_price for event in found} == {
        kind: prices.unit_price(kind) for kind in {event.kind for event in found}
    }
    for event in found:
        exact = event.quantity * event.unit_price.microusd / event.unit_price.units
        assert abs(event.cost_microusd - exact) <= 0.5


def ready(caller: Caller, sandbox_id: UUID) -> None:
    with db.tenant(caller) as tx:
        sandbox = sandbox_store.find(tx, sandbox_id)
        assert sandbox is not None
        since = clock.now() - timedelta(seconds=10)
        sandbox_store.save(tx, replace(sandbox, status=SandboxStatus.READY, ready_at=since))


@pytest.mark.parametrize("ender", ["reaper", "key"])
def test_a_sandbox_is_its_starters_whoever_ends_it(org: Caller, ender: str) -> None:
    with db.tenant(org) as tx:
        billing.grant(tx, org, amount_microusd=10_000_000, source_id="test", reason="test")
    owner = joined(org, Role.OWNER)
    with db.tenant(owner) as tx:
        sandbox = sandboxes.create(tx, owner, ttl_s=60, metadata={})
    ready(owner, sandbox.id)
    caller = org if ender == "key" else Caller.system(org.org_id)
    with db.tenant(caller) as tx:
        sandboxes.end_in(tx, caller, sandbox.id, reason=StopReason.TTL)
    (event,) = events(org)
    assert whose([event]) == {("", owner.actor_id, "")}
    assert event.quantity == pytest.approx(11, abs=1)
    assert event.unit_price.units == 3_600


def test_a_runs_sandbox_is_its_agents_and_its_starters(
    org: Caller, queued: Callable[..., UUID], provider: Provider
) -> None:
    run_id = queued("unused")
    system = Caller.system(org.org_id)
    machine.prepare(system, run_id)
    # Nothing listens where ECS would be: the sandbox's row is there all the same.
    with pytest.raises(EndpointConnectionError):
        machine.launch_sandbox(system, run_id, wake_token="t")
    with db.tenant(org) as tx:
        sandbox = sandboxes.of_run(tx, run_id)
    assert sandbox is not None
    ready(org, sandbox.id)
    with db.tenant(system) as tx:
        sandboxes.end_in(tx, system, sandbox.id, reason=StopReason.RUN_ENDED)
    assert whose(events(org)) == {(agent_of(org, run_id), "", org.actor_id)}
