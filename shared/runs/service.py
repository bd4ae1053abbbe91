"""Use cases of runs as their owners see them: create, follow, cancel."""

from uuid import UUID

from shared.agents import service as agents
from shared.audit import service as audit
from shared.billing import service as billing
from shared.billing.service import DryRun, Estimate
from shared.events import service as events
from shared.kernel import clock, db, ids
from shared.kernel.caller import Caller
from shared.kernel.db import Tx
from shared.kernel.errors import Unavailable
from shared.kernel.pagination import Slice
from shared.kernel.telemetry import logger
from shared.quotas import service as quotas
from shared.quotas.model import Look
from shared.quotas.plans import Resource
from shared.runs import ending, estimating, step_functions, store
from shared.runs.model import ZOMBIE_AFTER, EndReason, Run, RunEvent, Step, hold_until
from shared.runs.retention import forget_ended as forget_ended

_EVENTS_AT_ONCE = 500


def create_run(
    tx: Tx,
    caller: Caller,
    *,
    agent_id: UUID,
    text: str,
    budget_microusd: int | None,
    timeout_s: int | None,
    metadata: dict[str, str],
) -> Run:
    """Queue a run of the agent's live version and hold its whole budget; `start` must follow the commit.

    Raises `NotFound`, `QuotaExceeded`, `InsufficientCredits`, and `BudgetTooSmall` when the sandbox alone could use the
    budget up.
    """
    on = estimating.terms(tx, caller, agent_id=agent_id, budget_microusd=budget_microusd, timeout_s=timeout_s)
    agent, budget = on.agent, on.budget_microusd
    estimate = estimating.estimate(tx, caller, on)
    run = store.insert(
        tx,
        run_id=ids.new(),
        created_by_user=caller.person_id,
        created_by_actor=caller.actor_id,
        agent_id=agent.id,
        agent_version=agent.version,
        text=text,
        budget_microusd=budget,
        timeout_s=on.timeout_s,
        metadata=metadata,
    )
    shown = ids.show("run", run.id)
    quotas.allocate(tx, caller.org_id, Resource.CONCURRENT_RUNS, holder=shown)
    billing.hold(
        tx,
        caller,
        amount_microusd=budget,
        source_id=ending.source(run.id),
        expires_at=hold_until(clock.now(), on.timeout_s),
    )
    billing.note_estimate(tx, caller, subject=shown, kind="run", estimate=estimate)
    store.add_event(tx, run.id, "run.queued", {"agent_version": agent.version, "budget_microusd": budget})
    events.publish(tx, event_type="run.requested", subject=shown, data={})
    audit.record(
        tx,
        caller,
        action="run.create",
        resource_type="run",
        resource_id=shown,
        new={"agent_id": ids.show("agent", agent.id), "agent_version": agent.version, "budget_microusd": budget},
    )
    return run


def start(caller: Caller, run_id: UUID) -> None:
    """Start the execution of a queued run; may be called again, nothing starts twice."""
    step_functions.start_execution(org_id=caller.org_id, run_id=run_id)


def estimate_run(
    tx: Tx, caller: Caller, *, agent_id: UUID, budget_microusd: int | None, timeout_s: int | None
) -> Estimate:
    """Return what a run costs that is started like this; raise `NotFound`, `BudgetTooSmall`."""
    on = estimating.terms(tx, caller, agent_id=agent_id, budget_microusd=budget_microusd, timeout_s=timeout_s)
    return estimating.estimate(tx, caller, on)


def dry_run(tx: Tx, caller: Caller, *, agent_id: UUID, budget_microusd: int | None, timeout_s: int | None) -> DryRun:
    """Return what a run costs that is started like this, and what `create_run` would refuse it with just now.

    Raises `NotFound`, `BudgetTooSmall`. Nothing is changed.
    """
    on = estimating.terms(tx, caller, agent_id=agent_id, budget_microusd=budget_microusd, timeout_s=timeout_s)
    return estimating.dry_run(tx, caller, on)


def start_soon(caller: Caller, run_id: UUID) -> None:
    """Start a run just committed, or leave it to the outbox, whose `run.requested` starts it as well."""
    try:
        start(caller, run_id)
    except Unavailable:
        logger.warning("start postponed", extra={"run_id": str(run_id)})


def get_run(tx: Tx, caller: Caller, run_id: UUID) -> Run:
    return ending.visible(tx, caller, run_id)


def list_runs(tx: Tx, caller: Caller, asked: Slice, *, agent_id: UUID | None, status: str | None) -> list[Run]:
    """Return up to `limit + 1` runs that the caller may see, newest first."""
    return store.list_runs(tx, asked, only_own=caller.only_own, agent_id=agent_id, status=status)


def list_steps(tx: Tx, caller: Caller, run_id: UUID) -> list[Step]:
    ending.visible(tx, caller, run_id)
    return store.steps(tx, run_id)


def events_after(tx: Tx, caller: Caller, run_id: UUID, after: int) -> tuple[Run, list[RunEvent]]:
    """Return the run and its events beyond number `after`, oldest first."""
    # The run first: an event committed in between is then seen without its run's end, never the other way round.
    run = ending.visible(tx, caller, run_id)
    return run, store.events_after(tx, run_id, after, limit=_EVENTS_AT_ONCE)


def cancel_run(caller: Caller, run_id: UUID) -> Run:
    """Cancel a run: settled, its execution stopped, its sandbox freed. Again: the same; ended otherwise: a conflict.

    A member cancels the runs they started and those of agents that they may write.
    """
    with db.tenant(caller) as tx:
        run = ending.visible(tx, caller, run_id)
        if run.created_by_user != caller.only_own:
            agents.check_may_write(tx, caller, run.agent_id)
    if run.end_reason is not EndReason.CANCELLED_BY_USER or not run.ended:
        if run.ended:
            run.cancel(clock.now(), cost_microusd=run.cost_microusd)
        run = ending.end(caller, run_id, lambda _, run, cost: run.cancel(clock.now(), cost_microusd=cost))
    try:
        step_functions.stop_execution(run_id, cause="cancelled by its owner")
    except Unavailable:
        # The run is cancelled all the same: each of its steps looks first, and does nothing more.
        logger.warning("stop postponed", extra={"run_id": str(run_id)})
    return run


def holders(tx: Tx, look: Look) -> list[tuple[UUID, int]]:
    """Return the runs that count as concurrent: those that have not ended."""
    return [(run_id, 1) for run_id in store.unended(tx, after=look.after, among=look.among, limit=look.limit)]


def end_zombies(caller: Caller) -> int:
    """End the tenant's runs that nothing drives any more; start those that never were. Return how many."""
    with db.tenant(caller) as tx:
        stalled = store.stalled(tx, ZOMBIE_AFTER)
    ended = 0
    for run in stalled:
        running = step_functions.is_running(run.id)
        if running is None:
            start(caller, run.id)
        elif not running:
            ending.end(caller, run.id, _abandon)
            ended += 1
    return ended


def _abandon(_: Tx, run: Run, cost_microusd: int) -> Run:
    return run.fail(
        clock.now(),
        reason=run.end_reason or EndReason.INTERNAL,
        failure=run.failure or "The run stopped making progress and was ended.",
        cost_microusd=cost_microusd,
    )
