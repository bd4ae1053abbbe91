"""What estimates are made from: runs and sandboxes of a tenant that cost this much or lived that long."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import LiteralString
from uuid import UUID

from shared.agents import service as agents
from shared.agents.model import AgentConfig
from shared.billing import service as billing
from shared.kernel import clock, db, ids
from shared.kernel.caller import Caller
from shared.quotas import service as quotas
from shared.quotas.plans import Resource
from shared.runs import ending
from shared.runs import service as runs_service
from shared.sandboxes import service as sandboxes_service
from shared.sandboxes import store as sandbox_store
from shared.sandboxes.model import SandboxStatus
from tests.api_gateway import Answer

type Call = Callable[..., Answer]
BUDGET = 100_000
CONFIG = AgentConfig(instructions="Be brief.", model=None, tools=(), max_steps=10, timeout_s=60, budget_microusd=BUDGET)


def enrich(caller: Caller, *, amount_microusd: int = 10_000_000) -> None:
    with db.tenant(caller) as tx:
        billing.grant(tx, caller, amount_microusd=amount_microusd, source_id=f"t:{ids.new()}", reason="to test with")


def agent_of(caller: Caller, config: AgentConfig = CONFIG) -> UUID:
    with db.tenant(caller) as tx:
        return agents.create_agent(tx, caller, name="A", config=config, metadata={}).id


def start_run(caller: Caller, agent_id: UUID) -> UUID:
    with db.tenant(caller) as tx:
        return runs_service.create_run(
            tx, caller, agent_id=agent_id, text="t", budget_microusd=None, timeout_s=None, metadata={}
        ).id


def run_costing(caller: Caller, agent_id: UUID, cost: int) -> UUID:
    run_id = start_run(caller, agent_id)
    ending.end(caller, run_id, lambda _, run, __: run.succeed(clock.now(), output="o", cost_microusd=cost))
    return run_id


def cancelled_run(caller: Caller, agent_id: UUID) -> UUID:
    run_id = start_run(caller, agent_id)
    ending.end(caller, run_id, lambda _, run, __: run.cancel(clock.now(), cost_microusd=0))
    return run_id


def old_runs(caller: Caller, agent_id: UUID, *, status: str, costs: LiteralString, first: int, last: int) -> None:
    """Ended runs of these numbers; `costs` is SQL of the number n."""
    with db.tenant(caller) as tx:
        tx.execute(
            "INSERT INTO runs (id, org_id, agent_id, agent_version, status, end_reason, input, budget_microusd,"
            " cost_microusd, timeout_s, metadata, ended_at)"
            " SELECT ('01890000-0000-7000-8000-' || lpad(n::text, 12, '0'))::uuid, %s, %s, 1, %s, 'completed',"
            " 't', 1000, " + costs + ", 60, '{}', now() FROM generate_series(%s::int, %s::int) n",
            (caller.org_id, agent_id, status, first, last),
        )


def sandbox_used_for(caller: Caller, used_s: int | None, *, ttl_s: int = 600) -> None:
    """An ended sandbox that was ready for so many seconds; None: it never was."""
    with db.tenant(caller) as tx:
        started = sandboxes_service.create(tx, caller, ttl_s=ttl_s, metadata={})
        stopped_at = started.created_at + timedelta(seconds=used_s or 0)
        ready_at = None if used_s is None else started.created_at
        sandbox_store.save(tx, replace(started, status=SandboxStatus.STOPPED, ready_at=ready_at, stopped_at=stopped_at))
        quotas.release(tx, caller.org_id, Resource.SANDBOXES, holder=ids.show("sbx", started.id))
