"""How a run ends: once, with its sandbox freed, its credits settled and its end published, in one transaction."""

from collections.abc import Callable
from uuid import UUID

from shared.audit import service as audit
from shared.billing import service as billing
from shared.billing.model import HoldReleased
from shared.events import service as events
from shared.inference import service as inference
from shared.kernel import db, ids
from shared.kernel.caller import Caller
from shared.kernel.db import Tx
from shared.kernel.errors import NotFound
from shared.kernel.telemetry import logger, measure
from shared.quotas import service as quotas
from shared.quotas.plans import Resource
from shared.runs import store
from shared.runs.model import Run, RunStatus
from shared.sandboxes import service as sandboxes
from shared.sandboxes.model import StopReason


def end(caller: Caller, run_id: UUID, transition: Callable[[Tx, Run, int], Run]) -> Run:
    """End a run by `transition(tx, run, cost)` and then stop its sandbox's task; may run again after a crash.

    A run that has ended already is returned as it is: only its sandbox is seen to.
    """
    ended_here = False
    with db.tenant(caller) as tx:
        run = existing(tx, run_id, lock=True)
        sandbox = sandboxes.of_run(tx, run_id)
        if not run.ended:
            quotas.release(tx, caller.org_id, Resource.CONCURRENT_RUNS, holder=ids.show("run", run_id))
            if sandbox is not None:
                sandbox = sandboxes.end_in(tx, caller, sandbox.id, reason=StopReason.RUN_ENDED)
            models = inference.cost_under(tx, source_prefix=source(run_id))
            run = transition(tx, run, models + (sandbox.cost_microusd if sandbox else 0))
            _close(tx, caller, run)
            ended_here = True
    if ended_here:
        measure("RunEnded", 1, status=run.status, end_reason=str(run.end_reason))
        measure("RunCostMicrousd", run.cost_microusd, unit="None")
    if sandbox is not None:
        sandboxes.stop_task_of(caller, sandbox)
    return run


def existing(tx: Tx, run_id: UUID, *, lock: bool = False) -> Run:
    """Return the run; raise `NotFound`."""
    run = store.find(tx, run_id, lock=lock)
    if run is None:
        raise NotFound.of("run", ids.show("run", run_id))
    return run


def visible(tx: Tx, caller: Caller, run_id: UUID) -> Run:
    """Return a run that the caller may see; raise `NotFound`."""
    run = store.find_for(tx, run_id, only_own=caller.only_own)
    if run is None:
        raise NotFound.of("run", ids.show("run", run_id))
    return run


def source(run_id: UUID) -> str:
    """Return what every cost of the run begins with in the ledgers, and the name of its hold."""
    return f"{ids.show('run', run_id)}:"


def _settle(tx: Tx, caller: Caller, run: Run) -> None:
    try:
        billing.settle(tx, caller, source_id=source(run.id), amount_microusd=run.cost_microusd)
    except HoldReleased:
        # The run outlived its hold. It must end all the same: what it cost is the platform's loss, and billing has
        # raised the alarm.
        logger.error("run outlived its hold", extra={"cost_microusd": run.cost_microusd})


def _close(tx: Tx, caller: Caller, run: Run) -> None:
    shown = ids.show("run", run.id)
    facts = {"status": run.status, "end_reason": run.end_reason, "cost_microusd": run.cost_microusd}
    store.save(tx, run)
    _settle(tx, caller, run)
    broken_off = run.status is RunStatus.CANCELLED
    billing.close_estimate(tx, subject=shown, actual_microusd=None if broken_off else run.cost_microusd)
    store.add_event(tx, run.id, f"run.{run.status}", {**facts, "output": run.output, "failure": run.failure})
    events.publish(tx, event_type=f"run.{run.status}", subject=shown, data=facts)
    audit.record(tx, caller, action=f"run.{run.status}", resource_type="run", resource_id=shown, new=facts)
