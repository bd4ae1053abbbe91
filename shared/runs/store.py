"""SQL of runs, steps, tool calls and events."""

from dataclasses import replace
from datetime import timedelta
from typing import Any, LiteralString
from uuid import UUID

from psycopg.types.json import Jsonb

from shared.kernel.db import Row, Tx
from shared.kernel.pagination import Slice
from shared.runs.model import EndReason, Run, RunEvent, RunStatus, Step, ToolCall

COLUMNS: LiteralString = """id, created_by_user, created_by_actor, agent_id, agent_version, status, end_reason, input,
    output, failure, budget_microusd, cost_microusd, timeout_s, metadata, created_at, started_at, ended_at"""
INSERT: LiteralString = (
    """
    INSERT INTO runs (id, org_id, created_by_user, created_by_actor, agent_id, agent_version, status, input,
                      budget_microusd, timeout_s, metadata)
    VALUES (%(id)s, current_setting('app.current_org_id')::uuid, %(created_by_user)s, %(created_by_actor)s,
            %(agent_id)s, %(agent_version)s, 'queued', %(input)s, %(budget_microusd)s, %(timeout_s)s, %(metadata)s)
    RETURNING """
    + COLUMNS
)
FIND: LiteralString = "SELECT " + COLUMNS + " FROM runs WHERE id = %(id)s"
# A member sees the runs they started and those of the agents that they may read. As an array, so that the planner may
# use an index for either side.
VISIBLE: LiteralString = """
    AND (created_by_user = %(only_own)s
         OR agent_id = ANY(ARRAY(SELECT reach.id FROM agents_within_reach(%(only_own)s, 'read') AS reach (id))))
"""
FIND_VISIBLE: LiteralString = FIND + VISIBLE
LOCK: LiteralString = FIND + " FOR UPDATE"
LISTED: LiteralString = (
    "SELECT "
    + COLUMNS
    + """ FROM runs
     WHERE (%(before)s::uuid IS NULL OR id < %(before)s)
       AND (%(agent_id)s::uuid IS NULL OR agent_id = %(agent_id)s)
       AND (%(status)s::text IS NULL OR status = %(status)s)
    """
)
NEWEST_FIRST: LiteralString = " ORDER BY id DESC LIMIT %(limit)s"
LIST: LiteralString = LISTED + NEWEST_FIRST
LIST_VISIBLE: LiteralString = LISTED + VISIBLE + NEWEST_FIRST
STALLED: LiteralString = (
    "SELECT " + COLUMNS + " FROM runs WHERE ended_at IS NULL AND progressed_at < now() - %(after)s::interval"
    " ORDER BY id LIMIT 100"
)
UNENDED: LiteralString = """
    SELECT id FROM runs
     WHERE ended_at IS NULL AND (%(after)s::uuid IS NULL OR id > %(after)s)
       AND (%(among)s::uuid[] IS NULL OR id = ANY(%(among)s))
     ORDER BY id LIMIT %(limit)s
"""
SAVE: LiteralString = """
    UPDATE runs
       SET status = %(status)s, end_reason = %(end_reason)s, output = %(output)s, failure = %(failure)s,
           cost_microusd = %(cost_microusd)s, started_at = %(started_at)s, ended_at = %(ended_at)s,
           progressed_at = now()
     WHERE id = %(id)s
"""
SET_COST: LiteralString = "UPDATE runs SET cost_microusd = %(cost)s, progressed_at = now() WHERE id = %(id)s"
SET_DIAGNOSIS: LiteralString = """
    UPDATE runs SET end_reason = %(end_reason)s, failure = %(failure)s WHERE id = %(id)s AND ended_at IS NULL
"""
# Taken when it is new, or when the worker that had it let its lease run out.
CLAIM_STEP: LiteralString = """
    INSERT INTO run_steps (org_id, run_id, step_no, status, claimed_by, lease_until)
    VALUES (current_setting('app.current_org_id')::uuid, %(run_id)s, %(step_no)s, 'running', %(worker)s,
            now() + %(lease)s::interval)
    ON CONFLICT (run_id, step_no) DO UPDATE
       SET claimed_by = excluded.claimed_by, lease_until = excluded.lease_until, attempts = run_steps.attempts + 1
     WHERE run_steps.status = 'running' AND run_steps.lease_until < now()
    RETURNING step_no
"""
RELEASE_STEP: LiteralString = """
    UPDATE run_steps SET lease_until = now() - interval '1 second'
     WHERE run_id = %(run_id)s AND step_no = %(step_no)s AND claimed_by = %(worker)s AND status = 'running'
"""
END_STEP: LiteralString = """
    UPDATE run_steps SET status = 'done', message = %(message)s, cost_microusd = %(cost_microusd)s, ended_at = now()
     WHERE run_id = %(run_id)s AND step_no = %(step_no)s AND status = 'running'
    RETURNING step_no
"""
STEPS: LiteralString = """
    SELECT step_no, status, attempts, message, cost_microusd, started_at, ended_at
      FROM run_steps WHERE run_id = %(run_id)s ORDER BY step_no
"""
INSERT_CALL: LiteralString = """
    INSERT INTO run_tool_calls (org_id, run_id, step_no, call_no, provider_call_id, name, arguments, status)
    VALUES (current_setting('app.current_org_id')::uuid, %(run_id)s, %(step_no)s, %(call_no)s, %(provider_call_id)s,
            %(name)s, %(arguments)s, 'requested')
"""
START_CALL: LiteralString = """
    UPDATE run_tool_calls SET started_at = coalesce(started_at, now())
     WHERE run_id = %(run_id)s AND step_no = %(step_no)s AND call_no = %(call_no)s
    RETURNING step_no, call_no, provider_call_id, name, arguments, status, result, started_at, ended_at
"""
END_CALL: LiteralString = """
    UPDATE run_tool_calls SET status = %(status)s, result = %(result)s, ended_at = now()
     WHERE run_id = %(run_id)s AND step_no = %(step_no)s AND call_no = %(call_no)s AND status = 'requested'
    RETURNING call_no
"""
CALLS: LiteralString = """
    SELECT step_no, call_no, provider_call_id, name, arguments, status, result, started_at, ended_at
      FROM run_tool_calls WHERE run_id = %(run_id)s ORDER BY step_no, call_no
"""
# The run's row is locked by this until the commit: numbers have no gaps, and who sees n has seen all before n.
ADD_EVENT: LiteralString = """
    WITH numbered AS (
        UPDATE runs SET last_event_seq = last_event_seq + 1 WHERE id = %(run_id)s RETURNING org_id, id, last_event_seq
    )
    INSERT INTO run_events (org_id, run_id, seq, type, data)
    SELECT org_id, id, last_event_seq, %(type)s, %(data)s FROM numbered
"""
EVENTS_AFTER: LiteralString = """
    SELECT seq, type, data, created_at FROM run_events
     WHERE run_id = %(run_id)s AND seq > %(after)s ORDER BY seq LIMIT %(limit)s
"""


def insert(
    tx: Tx,
    *,
    run_id: UUID,
    created_by_user: UUID | None,
    created_by_actor: str,
    agent_id: UUID,
    agent_version: int,
    text: str,
    budget_microusd: int,
    timeout_s: int,
    metadata: dict[str, str],
) -> Run:
    row = tx.execute(
        INSERT,
        {
            "id": run_id,
            "created_by_user": created_by_user,
            "created_by_actor": created_by_actor,
            "agent_id": agent_id,
            "agent_version": agent_version,
            "input": text,
            "budget_microusd": budget_microusd,
            "timeout_s": timeout_s,
            "metadata": Jsonb(metadata),
        },
    ).fetchone()
    assert row is not None  # noqa: S101 - INSERT … RETURNING
    return _run(row)


def find(tx: Tx, run_id: UUID, *, lock: bool = False) -> Run | None:
    row = tx.execute(LOCK if lock else FIND, {"id": run_id}).fetchone()
    return None if row is None else _run(row)


def find_for(tx: Tx, run_id: UUID, *, only_own: UUID | None) -> Run | None:
    """Return the run if this person may see it; with no person, whosever it is."""
    row = tx.execute(FIND if only_own is None else FIND_VISIBLE, {"id": run_id, "only_own": only_own}).fetchone()
    return None if row is None else _run(row)


def list_runs(tx: Tx, asked: Slice, *, only_own: UUID | None, agent_id: UUID | None, status: str | None) -> list[Run]:
    values = {"before": asked.before, "limit": asked.limit + 1, "agent_id": agent_id, "status": status}
    rows = tx.execute(LIST if only_own is None else LIST_VISIBLE, values | {"only_own": only_own})
    return [_run(row) for row in rows]


def stalled(tx: Tx, after: timedelta) -> list[Run]:
    """Return runs that have not ended and made no progress for `after`."""
    return [_run(row) for row in tx.execute(STALLED, {"after": after})]


def unended(tx: Tx, *, after: UUID | None, among: list[UUID] | None, limit: int) -> list[UUID]:
    """Return ids of runs that have not ended, in their order: beyond `after`, or `among` these."""
    return [row["id"] for row in tx.execute(UNENDED, {"after": after, "among": among, "limit": limit})]


def save(tx: Tx, run: Run) -> None:
    """Write back what a transition of the model may have changed; counts as progress."""
    tx.execute(
        SAVE,
        {
            "id": run.id,
            "status": run.status,
            "end_reason": run.end_reason,
            "output": run.output,
            "failure": run.failure,
            "cost_microusd": run.cost_microusd,
            "started_at": run.started_at,
            "ended_at": run.ended_at,
        },
    )


def set_cost(tx: Tx, run_id: UUID, cost_microusd: int) -> None:
    """Note what the run has cost so far; counts as progress."""
    tx.execute(SET_COST, {"id": run_id, "cost": cost_microusd})


def set_diagnosis(tx: Tx, run_id: UUID, *, reason: EndReason, failure: str) -> None:
    tx.execute(SET_DIAGNOSIS, {"id": run_id, "end_reason": reason, "failure": failure})


def claim_step(tx: Tx, run_id: UUID, step_no: int, *, worker: str, lease: timedelta) -> bool:
    """Take a step for this worker; False when it is done or another worker's lease still runs."""
    values = {"run_id": run_id, "step_no": step_no, "worker": worker, "lease": lease}
    return tx.execute(CLAIM_STEP, values).fetchone() is not None


def release_step(tx: Tx, run_id: UUID, step_no: int, *, worker: str) -> None:
    """Give a step back that this worker could not do, for whoever tries next."""
    tx.execute(RELEASE_STEP, {"run_id": run_id, "step_no": step_no, "worker": worker})


def end_step(tx: Tx, run_id: UUID, step_no: int, *, message: dict[str, Any], cost_microusd: int) -> bool:
    """Checkpoint a step; False when another worker did before."""
    values = {"run_id": run_id, "step_no": step_no, "message": Jsonb(message), "cost_microusd": cost_microusd}
    return tx.execute(END_STEP, values).fetchone() is not None


def steps(tx: Tx, run_id: UUID) -> list[Step]:
    """Return the run's steps in order, each with its tool calls."""
    calls: dict[int, list[ToolCall]] = {}
    for row in tx.execute(CALLS, {"run_id": run_id}).fetchall():
        calls.setdefault(row["step_no"], []).append(ToolCall(**row))
    rows = tx.execute(STEPS, {"run_id": run_id}).fetchall()
    return [replace(Step(**row), calls=tuple(calls.get(row["step_no"], ()))) for row in rows]


def insert_call(tx: Tx, run_id: UUID, step_no: int, call_no: int, *, call: dict[str, str]) -> None:
    """Write down a call that a model asked for: its `provider_call_id`, `name` and `arguments`."""
    tx.execute(INSERT_CALL, {"run_id": run_id, "step_no": step_no, "call_no": call_no, **call})


def start_call(tx: Tx, run_id: UUID, step_no: int, call_no: int) -> ToolCall | None:
    """Note when the call began first, and return it."""
    row = tx.execute(START_CALL, {"run_id": run_id, "step_no": step_no, "call_no": call_no}).fetchone()
    return None if row is None else ToolCall(**row)


def end_call(tx: Tx, run_id: UUID, step_no: int, call_no: int, *, status: str, result: str) -> bool:
    """Checkpoint a tool call; False when another worker did before."""
    values = {"run_id": run_id, "step_no": step_no, "call_no": call_no, "status": status, "result": result}
    return tx.execute(END_CALL, values).fetchone() is not None


def add_event(tx: Tx, run_id: UUID, event_type: str, data: dict[str, Any]) -> None:
    tx.execute(ADD_EVENT, {"run_id": run_id, "type": event_type, "data": Jsonb(data)})


def events_after(tx: Tx, run_id: UUID, after: int, *, limit: int) -> list[RunEvent]:
    rows = tx.execute(EVENTS_AFTER, {"run_id": run_id, "after": after, "limit": limit})
    return [RunEvent(**row) for row in rows]


def _run(row: Row) -> Run:
    reason = None if row["end_reason"] is None else EndReason(row["end_reason"])
    return Run(**(row | {"status": RunStatus(row["status"]), "end_reason": reason}))
