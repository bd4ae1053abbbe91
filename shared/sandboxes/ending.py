"""How a sandbox ends: its billing stops in one transaction, its task right after, whoever waits for it is told."""

from contextlib import suppress
from dataclasses import replace
from uuid import UUID

from shared.audit import service as audit
from shared.billing import service as billing
from shared.billing.model import HoldReleased
from shared.events import service as events
from shared.kernel import clock, db, ids
from shared.kernel.caller import Caller
from shared.kernel.db import Tx
from shared.kernel.errors import NotFound
from shared.quotas import service as quotas
from shared.quotas.plans import Resource
from shared.sandboxes import fargate, step_functions, store
from shared.sandboxes.model import Sandbox, SandboxStatus, StopReason
from shared.usage import service as usage
from shared.usage.model import UsageKind


def end(caller: Caller, sandbox_id: UUID, *, reason: StopReason) -> Sandbox:
    """End a sandbox and stop its task. Ending it again changes nothing."""
    with db.tenant(caller) as tx:
        visible(tx, caller, sandbox_id)
        ended = end_in(tx, caller, sandbox_id, reason=reason)
    return stop_task_of(caller, ended)


def end_in(tx: Tx, caller: Caller, sandbox_id: UUID, *, reason: StopReason) -> Sandbox:
    """End a sandbox within a transaction: its billing stops here; `stop_task_of` must follow the commit.

    Whoever may end a run ends its sandbox, whosever that is.
    """
    before = existing(tx, sandbox_id, lock=True)
    after = before.end(reason, clock.now())
    return after if before.ended else _settle(tx, caller, after)


def stop_task_of(caller: Caller, ended: Sandbox) -> Sandbox:
    """Stop the task of an ended sandbox and tell whoever still waits for it; may run again."""
    if ended.status is not SandboxStatus.STOPPED and ended.task_arn is not None:
        fargate.stop_task(ended.task_arn, reason=str(ended.reason))
    with db.tenant(caller) as tx:
        store.mark_stopped(tx, ended.id)
        stopped = existing(tx, ended.id)
    if stopped.wake_token is not None and stopped.ready_at is None:
        step_functions.fail(
            stopped.wake_token, error_name="SandboxStartFailed", cause=f"The sandbox ended: {stopped.reason}."
        )
    return stopped


def end_overdue(caller: Caller) -> int:
    """End the tenant's sandboxes that outlived their TTL, and finish what a crash left half stopped."""
    with db.tenant(caller) as tx:
        overdue = store.overdue(tx)
    for sandbox in overdue:
        end(caller, sandbox.id, reason=StopReason.TTL)
    return len(overdue)


def cost_so_far(sandbox: Sandbox) -> int:
    """Return micro-dollars from ready until now, or until it ended."""
    return price(sandbox, sandbox.billable_s(clock.now()))


def _settle(tx: Tx, caller: Caller, ended: Sandbox) -> Sandbox:
    seconds = ended.billable_s(clock.now())
    size = {"cpu_units": str(ended.cpu_units), "memory_mib": str(ended.memory_mib)}
    priced = billing.price_of(UsageKind.SANDBOX_SECONDS, seconds, size, at=ended.created_at)
    ended = ended.costing(priced.cost_microusd)
    store.save(tx, ended)
    store.lose_commands(tx, ended.id)
    quotas.release(tx, caller.org_id, Resource.SANDBOXES, holder=ids.show("sbx", ended.id))
    if seconds:
        usage.record(
            tx,
            # Theirs who started it, whoever ends it.
            replace(caller, behalf=ended.attribution),
            kind=UsageKind.SANDBOX_SECONDS,
            quantity=seconds,
            cost_microusd=ended.cost_microusd,
            source_id=source(ended),
            # It is priced by when it was started, as its hold was.
            occurred_at=ended.created_at,
            dimensions={"template": ended.template} | size,
            unit_price=priced.unit_price,
        )
    if ended.run_id is None:
        # It ends although it outlived its hold: then its cost is the platform's loss, and billing raises an alarm.
        with suppress(HoldReleased):
            billing.settle(tx, caller, source_id=source(ended), amount_microusd=ended.cost_microusd)
        used = None if ended.ready_at is None else ended.cost_microusd
        billing.close_estimate(tx, subject=ids.show("sbx", ended.id), actual_microusd=used)
    events.publish(
        tx,
        event_type="sandbox.ended",
        subject=ids.show("sbx", ended.id),
        data={"reason": str(ended.reason), "cost_microusd": ended.cost_microusd},
    )
    record(tx, caller, "sandbox.end", ended)
    return ended


def existing(tx: Tx, sandbox_id: UUID, *, lock: bool = False) -> Sandbox:
    sandbox = store.find(tx, sandbox_id, lock=lock)
    if sandbox is None:
        raise NotFound.of("sandbox", ids.show("sbx", sandbox_id))
    return sandbox


def visible(tx: Tx, caller: Caller, sandbox_id: UUID) -> Sandbox:
    """Return a sandbox that the caller may see and use, a member their own alone; raise `NotFound`."""
    sandbox = store.find_for(tx, sandbox_id, only_own=caller.only_own)
    if sandbox is None:
        raise NotFound.of("sandbox", ids.show("sbx", sandbox_id))
    return sandbox


def price(sandbox: Sandbox, seconds: int) -> int:
    return billing.price_of_sandbox(
        cpu_units=sandbox.cpu_units, memory_mib=sandbox.memory_mib, seconds=seconds, at=sandbox.created_at
    )


def source(sandbox: Sandbox) -> str:
    return f"sandbox:{ids.show('sbx', sandbox.id)}"


def record(tx: Tx, caller: Caller, action: str, sandbox: Sandbox) -> None:
    audit.record(
        tx,
        caller,
        action=action,
        resource_type="sandbox",
        resource_id=ids.show("sbx", sandbox.id),
        new={"status": sandbox.status, "reason": sandbox.reason},
    )
