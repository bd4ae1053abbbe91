"""SQL of sandboxes and their commands."""

from datetime import datetime
from typing import Any, LiteralString
from uuid import UUID

from psycopg.types.json import Jsonb

from shared.kernel.db import Row, Tx
from shared.kernel.pagination import Slice
from shared.sandboxes.model import Command, Sandbox, SandboxStatus, StopReason

COLUMNS: LiteralString = """id, run_id, created_by_user, created_by_actor, agent_id, template, cpu_units, memory_mib,
    status, reason, task_arn, address, access_token, wake_token, cost_microusd, metadata, created_at, ready_at,
    stopped_at, expires_at"""
INSERT: LiteralString = (
    """
    INSERT INTO sandboxes (id, org_id, run_id, created_by_user, created_by_actor, agent_id, template, cpu_units,
                           memory_mib, status, metadata, expires_at)
    VALUES (%(id)s, current_setting('app.current_org_id')::uuid, %(run_id)s, %(created_by_user)s, %(created_by_actor)s,
            %(agent_id)s, %(template)s, %(cpu_units)s, %(memory_mib)s, 'starting', %(metadata)s, %(expires_at)s)
    ON CONFLICT (run_id) WHERE run_id IS NOT NULL DO NOTHING
    RETURNING """
    + COLUMNS
)
FIND: LiteralString = "SELECT " + COLUMNS + " FROM sandboxes WHERE id = %(id)s"
FIND_OWN: LiteralString = FIND + " AND created_by_user = %(only_own)s"
LOCK: LiteralString = FIND + " FOR UPDATE"
FIND_BY_RUN: LiteralString = "SELECT " + COLUMNS + " FROM sandboxes WHERE run_id = %(run_id)s"
LISTED: LiteralString = "SELECT " + COLUMNS + " FROM sandboxes WHERE (%(before)s::uuid IS NULL OR id < %(before)s)"
NEWEST_FIRST: LiteralString = " ORDER BY id DESC LIMIT %(limit)s"
LIST: LiteralString = LISTED + NEWEST_FIRST
LIST_OWN: LiteralString = LISTED + " AND created_by_user = %(only_own)s" + NEWEST_FIRST
OVERDUE: LiteralString = (
    "SELECT " + COLUMNS + " FROM sandboxes"
    " WHERE (status IN ('starting', 'ready') AND expires_at < now()) OR status = 'stopping' ORDER BY id LIMIT 100"
)
LIVING: LiteralString = """
    SELECT id FROM sandboxes
     WHERE status IN ('starting', 'ready') AND (%(after)s::uuid IS NULL OR id > %(after)s)
       AND (%(among)s::uuid[] IS NULL OR id = ANY(%(among)s))
     ORDER BY id LIMIT %(limit)s
"""
SET_REGISTRATION: LiteralString = """
    UPDATE sandboxes SET registration_sha256 = %(sha256)s WHERE id = %(id)s
"""
SET_WAKE: LiteralString = "UPDATE sandboxes SET wake_token = %(wake_token)s WHERE id = %(id)s"
SET_TASK: LiteralString = "UPDATE sandboxes SET task_arn = %(task_arn)s WHERE id = %(id)s"
SAVE: LiteralString = """
    UPDATE sandboxes
       SET status = %(status)s, reason = %(reason)s, address = %(address)s, access_token = %(access_token)s,
           cost_microusd = %(cost_microusd)s, ready_at = %(ready_at)s, stopped_at = %(stopped_at)s
     WHERE id = %(id)s
"""
STOPPED: LiteralString = "UPDATE sandboxes SET status = 'stopped' WHERE id = %(id)s AND status = 'stopping'"
BY_REGISTRATION: LiteralString = "SELECT id, org_id FROM sandbox_by_registration(%(sha256)s)"
COMMAND_COLUMNS: LiteralString = """id, sandbox_id, command, status, exit_code, stdout, stderr, truncated, duration_ms,
    created_at, ended_at"""
INSERT_COMMAND: LiteralString = (
    """
    INSERT INTO sandbox_commands (id, org_id, sandbox_id, source_id, command, status)
    VALUES (%(id)s, current_setting('app.current_org_id')::uuid, %(sandbox_id)s, %(source_id)s, %(command)s, 'running')
    ON CONFLICT (org_id, sandbox_id, source_id) DO NOTHING
    RETURNING """
    + COMMAND_COLUMNS
)
FIND_COMMAND_BY_SOURCE: LiteralString = (
    "SELECT "
    + COMMAND_COLUMNS
    + " FROM sandbox_commands WHERE sandbox_id = %(sandbox_id)s AND source_id = %(source_id)s"
)
FIND_COMMAND: LiteralString = (
    "SELECT " + COMMAND_COLUMNS + " FROM sandbox_commands WHERE sandbox_id = %(sandbox_id)s AND id = %(id)s"
)
END_COMMAND: LiteralString = (
    """
    UPDATE sandbox_commands
       SET status = %(status)s, exit_code = %(exit_code)s, stdout = %(stdout)s, stderr = %(stderr)s,
           truncated = %(truncated)s, duration_ms = %(duration_ms)s, ended_at = now()
     WHERE id = %(id)s AND status = 'running'
    RETURNING """
    + COMMAND_COLUMNS
)
LOSE_COMMANDS: LiteralString = """
    UPDATE sandbox_commands SET status = 'lost', ended_at = now()
     WHERE sandbox_id = %(sandbox_id)s AND status = 'running'
"""
# What was paid for, and the time in which at least one command ran: two at once are no more than one.
TIME_USED: LiteralString = """
    WITH paid AS (
        SELECT id, cost_microusd, tstzrange(ready_at, least(stopped_at, expires_at)) AS span
          FROM sandboxes
         WHERE created_at >= %(since)s AND ready_at IS NOT NULL AND least(stopped_at, expires_at) > ready_at
           AND stopped_at IS NOT NULL
    ), busy AS (
        SELECT unnest(range_agg(paid.span * tstzrange(command.created_at, command.ended_at))) AS span
          FROM paid JOIN sandbox_commands command ON command.sandbox_id = paid.id
         WHERE command.ended_at > command.created_at
         GROUP BY paid.id
    )
    SELECT count(*) AS sandboxes, coalesce(sum(cost_microusd), 0)::bigint AS cost_microusd,
           coalesce(sum(ceil(extract(epoch FROM upper(span) - lower(span)))), 0)::bigint AS paid_s,
           coalesce((SELECT ceil(sum(extract(epoch FROM upper(span) - lower(span)))) FROM busy), 0)::bigint AS busy_s
      FROM paid
"""


def insert(
    tx: Tx,
    *,
    sandbox_id: UUID,
    run_id: UUID | None,
    created_by_user: UUID | None,
    created_by_actor: str,
    agent_id: UUID | None,
    template: str,
    cpu_units: int,
    memory_mib: int,
    metadata: dict[str, str],
    expires_at: datetime,
) -> Sandbox | None:
    """Insert a starting sandbox; None when the run has one already."""
    row = tx.execute(
        INSERT,
        {
            "id": sandbox_id,
            "run_id": run_id,
            "created_by_user": created_by_user,
            "created_by_actor": created_by_actor,
            "agent_id": agent_id,
            "template": template,
            "cpu_units": cpu_units,
            "memory_mib": memory_mib,
            "metadata": Jsonb(metadata),
            "expires_at": expires_at,
        },
    ).fetchone()
    return None if row is None else _sandbox(row)


def find(tx: Tx, sandbox_id: UUID, *, lock: bool = False) -> Sandbox | None:
    row = tx.execute(LOCK if lock else FIND, {"id": sandbox_id}).fetchone()
    return None if row is None else _sandbox(row)


def find_for(tx: Tx, sandbox_id: UUID, *, only_own: UUID | None) -> Sandbox | None:
    """Return the sandbox if it is the person's own; with no person, whosever it is."""
    row = tx.execute(FIND if only_own is None else FIND_OWN, {"id": sandbox_id, "only_own": only_own}).fetchone()
    return None if row is None else _sandbox(row)


def find_by_run(tx: Tx, run_id: UUID) -> Sandbox | None:
    row = tx.execute(FIND_BY_RUN, {"run_id": run_id}).fetchone()
    return None if row is None else _sandbox(row)


def list_sandboxes(tx: Tx, asked: Slice, *, only_own: UUID | None) -> list[Sandbox]:
    values = {"before": asked.before, "limit": asked.limit + 1, "only_own": only_own}
    return [_sandbox(row) for row in tx.execute(LIST if only_own is None else LIST_OWN, values)]


def overdue(tx: Tx) -> list[Sandbox]:
    return [_sandbox(row) for row in tx.execute(OVERDUE)]


def living(tx: Tx, *, after: UUID | None, among: list[UUID] | None, limit: int) -> list[UUID]:
    """Return ids of sandboxes that have not ended, in their order: beyond `after`, or `among` these."""
    return [row["id"] for row in tx.execute(LIVING, {"after": after, "among": among, "limit": limit})]


def set_registration(tx: Tx, sandbox_id: UUID, sha256: bytes) -> None:
    tx.execute(SET_REGISTRATION, {"id": sandbox_id, "sha256": sha256})


def set_wake(tx: Tx, sandbox_id: UUID, wake_token: str) -> None:
    tx.execute(SET_WAKE, {"id": sandbox_id, "wake_token": wake_token})


def set_task(tx: Tx, sandbox_id: UUID, task_arn: str) -> None:
    tx.execute(SET_TASK, {"id": sandbox_id, "task_arn": task_arn})


def save(tx: Tx, sandbox: Sandbox) -> None:
    """Write back what a transition of the model may have changed."""
    tx.execute(
        SAVE,
        {
            "id": sandbox.id,
            "status": sandbox.status,
            "reason": sandbox.reason,
            "address": sandbox.address,
            "access_token": sandbox.access_token,
            "cost_microusd": sandbox.cost_microusd,
            "ready_at": sandbox.ready_at,
            "stopped_at": sandbox.stopped_at,
        },
    )


def mark_stopped(tx: Tx, sandbox_id: UUID) -> None:
    tx.execute(STOPPED, {"id": sandbox_id})


def by_registration(tx: Tx, sha256: bytes) -> tuple[UUID, UUID] | None:
    """Return (sandbox id, org id) of the sandbox with this registration token, whatever its tenant."""
    row = tx.execute(BY_REGISTRATION, {"sha256": sha256}).fetchone()
    return None if row is None else (row["id"], row["org_id"])


def insert_command(
    tx: Tx, *, command_id: UUID, sandbox_id: UUID, source_id: str, command: dict[str, Any]
) -> Command | None:
    """Insert a running command; None when this source has one already."""
    row = tx.execute(
        INSERT_COMMAND,
        {"id": command_id, "sandbox_id": sandbox_id, "source_id": source_id, "command": Jsonb(command)},
    ).fetchone()
    return None if row is None else Command(**row)


def find_command_by_source(tx: Tx, sandbox_id: UUID, source_id: str) -> Command | None:
    row = tx.execute(FIND_COMMAND_BY_SOURCE, {"sandbox_id": sandbox_id, "source_id": source_id}).fetchone()
    return None if row is None else Command(**row)


def find_command(tx: Tx, sandbox_id: UUID, command_id: UUID) -> Command | None:
    row = tx.execute(FIND_COMMAND, {"sandbox_id": sandbox_id, "id": command_id}).fetchone()
    return None if row is None else Command(**row)


def end_command(tx: Tx, command_id: UUID, result: dict[str, Any]) -> Command | None:
    """Store a running command's result; None when it has one already."""
    row = tx.execute(
        END_COMMAND,
        {
            "id": command_id,
            "status": result["status"],
            "exit_code": result.get("exit_code"),
            "stdout": result.get("stdout", ""),
            "stderr": result.get("stderr", ""),
            "truncated": bool(result.get("stdout_truncated") or result.get("stderr_truncated")),
            "duration_ms": result.get("duration_ms"),
        },
    ).fetchone()
    return None if row is None else Command(**row)


def time_used(tx: Tx, *, since: datetime) -> Row:
    (row,) = tx.execute(TIME_USED, {"since": since})
    return row


def lose_commands(tx: Tx, sandbox_id: UUID) -> None:
    tx.execute(LOSE_COMMANDS, {"sandbox_id": sandbox_id})


def _sandbox(row: Row) -> Sandbox:
    reason = None if row["reason"] is None else StopReason(row["reason"])
    return Sandbox(**(row | {"status": SandboxStatus(row["status"]), "reason": reason}))
