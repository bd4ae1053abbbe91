"""Use cases of sandboxes: start, register, execute, files, stop. Commit first, then act, under repeatable names."""

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from shared.audit import service as audit
from shared.billing import service as billing
from shared.billing.service import DryRun, Estimate, SandboxTime
from shared.events import service as events
from shared.kernel import clock, db, ids
from shared.kernel.caller import Caller
from shared.kernel.db import Tx
from shared.kernel.errors import NotFound, Unauthenticated, Unavailable
from shared.kernel.pagination import Slice
from shared.quotas import service as quotas
from shared.quotas.model import Look
from shared.quotas.plans import Resource
from shared.sandboxes import ending, estimating, fargate, program, step_functions, store
from shared.sandboxes.ending import cost_so_far, end, end_in, end_overdue, stop_task_of
from shared.sandboxes.model import (
    Command,
    CommandRequest,
    Registration,
    Sandbox,
    SandboxLost,
    SandboxStartFailed,
    SandboxStatus,
    StopReason,
    program_address,
)
from shared.sandboxes.retention import forget_ended

# The door to how sandboxes end, and are forgotten.
__all__ = ["cost_so_far", "end", "end_in", "end_overdue", "forget_ended", "stop_task_of"]

TEMPLATE = "python"
CPU_UNITS = 256
MEMORY_MIB = 512


def create(tx: Tx, caller: Caller, *, ttl_s: int, metadata: dict[str, str]) -> Sandbox:
    """Create a sandbox of the caller's own and hold what it can cost at most; `launch` must follow the commit."""
    now = clock.now()
    sandbox = store.insert(
        tx,
        sandbox_id=ids.new(),
        run_id=None,
        created_by_user=caller.person_id,
        created_by_actor=caller.actor_id,
        agent_id=None,
        template=TEMPLATE,
        cpu_units=CPU_UNITS,
        memory_mib=MEMORY_MIB,
        metadata=metadata,
        expires_at=now + timedelta(seconds=ttl_s),
    )
    assert sandbox is not None  # noqa: S101 - only a run's sandbox can be there already
    shown, estimate = ids.show("sbx", sandbox.id), estimate_sandbox(tx, caller, ttl_s=ttl_s)
    quotas.allocate(tx, caller.org_id, Resource.SANDBOXES, holder=shown)
    billing.hold(
        tx,
        caller,
        amount_microusd=ending.price(sandbox, ttl_s),
        source_id=ending.source(sandbox),
        expires_at=sandbox.expires_at + timedelta(hours=1),
    )
    billing.note_estimate(tx, caller, subject=shown, kind="sandbox", estimate=estimate)
    ending.record(tx, caller, "sandbox.create", sandbox)
    return sandbox


def estimate_sandbox(tx: Tx, caller: Caller, *, ttl_s: int) -> Estimate:
    """Return what a sandbox costs that may live for so long."""
    return estimating.estimate(tx, only_own=caller.only_own, template=TEMPLATE, ttl_s=ttl_s, price=worst_case_cost)


def dry_run(tx: Tx, caller: Caller, *, ttl_s: int) -> DryRun:
    """Return what such a sandbox costs, and what `create` would refuse it with just now. Nothing is changed."""
    estimate = estimate_sandbox(tx, caller, ttl_s=ttl_s)
    refusal = billing.first_refusal(
        lambda: quotas.check(tx, caller.org_id, Resource.SANDBOXES),
        lambda: billing.check_affordable(tx, estimate.worst_microusd),
    )
    return DryRun("sandbox", estimate, refusal)


def launch_for_run(
    caller: Caller, *, run_id: UUID, agent_id: UUID, on_behalf_of: UUID | None, ttl_s: int, wake_token: str
) -> Sandbox:
    """Give a run its one sandbox and wake it once that is ready; called again, nothing is started twice.

    `on_behalf_of` is the person who started the run, where a person did: the sandbox is theirs. Its use is the
    agent's, and of those on whose behalf the caller acts.
    """
    with db.tenant(caller) as tx:
        sandbox = store.find_by_run(tx, run_id)
        if sandbox is None:
            sandbox = store.insert(
                tx,
                sandbox_id=ids.new(),
                run_id=run_id,
                created_by_user=on_behalf_of,
                created_by_actor=caller.attribution.person_id or caller.attribution.key_id or caller.actor_id,
                agent_id=agent_id,
                template=TEMPLATE,
                cpu_units=CPU_UNITS,
                memory_mib=MEMORY_MIB,
                metadata={},
                expires_at=clock.now() + timedelta(seconds=ttl_s),
            )
            if sandbox is None:
                raise Unavailable("Another worker is launching this run's sandbox.")
            # Its row is new, and so locked by nobody: who ends a sandbox locks the row before the quota.
            quotas.allocate(tx, caller.org_id, Resource.SANDBOXES, holder=ids.show("sbx", sandbox.id))
            ending.record(tx, caller, "sandbox.create", sandbox)
        store.set_wake(tx, sandbox.id, wake_token)
        sandbox = ending.existing(tx, sandbox.id)
    match sandbox.status:
        case SandboxStatus.READY:
            step_functions.wake(wake_token, {"sandbox_id": ids.show("sbx", sandbox.id)})
        case SandboxStatus.STARTING:
            launch(caller, sandbox.id)
        case _:
            raise SandboxStartFailed("This run's sandbox has ended.")
    return sandbox


def launch(caller: Caller, sandbox_id: UUID) -> None:
    """Start the task of a created sandbox, unless it has one; raise `SandboxStartFailed` and mark it failed.

    Each attempt has a registration token of its own: the task of an attempt that was never recorded can't register.
    """
    registration = Registration.generate()
    with db.tenant(caller) as tx:
        sandbox = ending.existing(tx, sandbox_id, lock=True)
        if sandbox.task_arn is not None or sandbox.ended:
            return
        store.set_registration(tx, sandbox_id, registration.sha256)
    try:
        task_arn = fargate.run_task(org_id=caller.org_id, sandbox_id=sandbox_id, registration=registration)
    except SandboxStartFailed:
        end(caller, sandbox_id, reason=StopReason.START_FAILED)
        raise
    with db.tenant(caller) as tx:
        store.set_task(tx, sandbox_id, task_arn)
        ended = ending.existing(tx, sandbox_id).ended
    if ended:
        # It was stopped while its task was being started.
        fargate.stop_task(task_arn, reason="stopped while starting")


def register(*, sandbox_id: UUID, token: str, address: str, access_token: str) -> None:
    """Admit the program inside: check its one-time token, run a first command, then call the sandbox ready.

    The same registration may come again until it is answered. Raises `Unauthenticated`.
    """
    address = program_address(address)
    with db.anonymous() as tx:
        found = store.by_registration(tx, Registration(token).sha256)
    if found is None or found[0] != sandbox_id:
        raise Unauthenticated("This registration token is unknown or was replaced.")
    caller = Caller.system(found[1])
    with db.tenant(caller) as tx:
        sandbox = ending.existing(tx, sandbox_id, lock=True).registered(address=address, access_token=access_token)
        store.save(tx, sandbox)
    first = sandbox.ready(clock.now())
    program.execute(first, command_id="ready", command=CommandRequest(argv=["true"]).to_json(), wait_s=10)
    with db.tenant(caller) as tx:
        sandbox = ending.existing(tx, sandbox_id, lock=True).ready(clock.now())
        store.save(tx, sandbox)
        ending.record(tx, caller, "sandbox.ready", sandbox)
        events.publish(tx, event_type="sandbox.ready", subject=ids.show("sbx", sandbox_id), data={})
    if sandbox.wake_token is not None:
        step_functions.wake(sandbox.wake_token, {"sandbox_id": ids.show("sbx", sandbox_id)})


def execute(caller: Caller, sandbox_id: UUID, *, request: CommandRequest, source_id: str, wait_s: int) -> Command:
    """Run a command and return it, ended or after `wait_s` still running. The same `source_id`: the first result."""
    with db.tenant(caller) as tx:
        sandbox = ending.visible(tx, caller, sandbox_id)
        command = store.find_command_by_source(tx, sandbox_id, source_id)
        if command is None:
            sandbox.reachable()
            command = store.insert_command(
                tx, command_id=ids.new(), sandbox_id=sandbox_id, source_id=source_id, command=request.to_json()
            )
            if command is None:
                command = store.find_command_by_source(tx, sandbox_id, source_id)
            else:
                # What is run may hold secrets: the trail names the command and doesn't repeat it.
                shown, facts = ids.show("cmd", command.id), {"sandbox_id": ids.show("sbx", sandbox_id)}
                audit.record(tx, caller, action="command.create", resource_type="command", resource_id=shown, new=facts)
    if command is None:
        raise Unavailable("Another request is starting this command; try again.")
    if command.ended:
        return _found(command)
    result = program.execute(sandbox, command_id=ids.show("cmd", command.id), command=command.command, wait_s=wait_s)
    return _record_result(caller, command, result)


def get_command(caller: Caller, sandbox_id: UUID, command_id: UUID, *, wait_s: int) -> Command:
    """Return a command, after waiting up to `wait_s` for its end."""
    with db.tenant(caller) as tx:
        sandbox = ending.visible(tx, caller, sandbox_id)
        command = store.find_command(tx, sandbox_id, command_id)
    if command is None:
        raise NotFound.of("command", ids.show("cmd", command_id))
    if command.ended:
        return command
    result = program.poll(sandbox, command_id=ids.show("cmd", command_id), wait_s=wait_s)
    return _record_result(caller, command, result)


def write_file(caller: Caller, sandbox_id: UUID, *, path: str, content: bytes) -> dict[str, Any]:
    with db.tenant(caller) as tx:
        sandbox = ending.visible(tx, caller, sandbox_id)
        sandbox.reachable()
        program.file_url(path)
        # Before it is written: nothing may come into a sandbox that the trail does not know of.
        audit.record(
            tx,
            caller,
            action="file.write",
            resource_type="sandbox",
            resource_id=ids.show("sbx", sandbox_id),
            new={"path": path, "bytes": len(content)},
        )
    return program.write_file(sandbox, path, content)


def read_file(caller: Caller, sandbox_id: UUID, *, path: str) -> bytes:
    return program.read_file(get(caller, sandbox_id), path)


def list_files(caller: Caller, sandbox_id: UUID, *, path: str) -> list[dict[str, Any]]:
    return program.list_files(get(caller, sandbox_id), path)


def worst_case_cost(ttl_s: int) -> int:
    """Return micro-dollars of a default sandbox that lives its whole TTL."""
    return billing.price_of_sandbox(cpu_units=CPU_UNITS, memory_mib=MEMORY_MIB, seconds=ttl_s, at=clock.now())


def get(caller: Caller, sandbox_id: UUID) -> Sandbox:
    """Return a sandbox that the caller may see and use."""
    with db.tenant(caller) as tx:
        return ending.visible(tx, caller, sandbox_id)


def holders(tx: Tx, look: Look) -> list[tuple[UUID, int]]:
    """Return the sandboxes that count: those that are starting or ready."""
    return [(sandbox_id, 1) for sandbox_id in store.living(tx, after=look.after, among=look.among, limit=look.limit)]


def of_run(tx: Tx, run_id: UUID) -> Sandbox | None:
    return store.find_by_run(tx, run_id)


def time_used(tx: Tx, since: datetime) -> SandboxTime:
    """Return what the tenant's ended sandboxes that were started since then were paid for, and were used."""
    return SandboxTime(**store.time_used(tx, since=since))


def list_sandboxes(tx: Tx, caller: Caller, asked: Slice) -> list[Sandbox]:
    """Return up to `limit + 1` sandboxes that the caller may see, newest first."""
    return store.list_sandboxes(tx, asked, only_own=caller.only_own)


def _record_result(caller: Caller, command: Command, result: dict[str, Any]) -> Command:
    if result.get("status") == "running":
        return command
    with db.tenant(caller) as tx:
        ended = store.end_command(tx, command.id, result)
        return _found(ended or store.find_command(tx, command.sandbox_id, command.id) or command)


def _found(command: Command) -> Command:
    if command.status == "lost":
        raise SandboxLost("The sandbox ended while this command ran: it has no result.")
    return command
