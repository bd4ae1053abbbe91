"""The nightly retention: what ended long ago is deleted as the plan says, and the trace of the money stays."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from psycopg.types.json import Jsonb

from functions.schedules import retain
from shared.agents import service as agents
from shared.agents.schemas import Config
from shared.audit import service as audit
from shared.billing import service as billing
from shared.inference import service as inference
from shared.inference.errors import AnswerForgotten
from shared.inference.model import ChatRequest
from shared.kernel import clock, db, ids
from shared.kernel.caller import Caller
from shared.kernel.errors import NotFound
from shared.kernel.pagination import Slice
from shared.memory import service as memories
from shared.quotas import service as quotas
from shared.runs import machine
from shared.runs import service as runs
from shared.sandboxes import service as sandboxes
from shared.sandboxes.model import StopReason
from tests.api_gateway import Context
from tests.model_provider import Provider

_EVENT = json.loads(Path("events/schedules/retain.json").read_text())
_TABLES = ("runs", "run_steps", "run_tool_calls", "run_events", "sandboxes", "sandbox_commands")


def retained() -> dict[str, int]:
    found: dict[str, int] = retain.handler(_EVENT, Context())
    return found


@dataclass
class Past:
    """An org in which things happened some days ago."""

    org: Caller

    def on(self, plan: str, **limits: Any) -> "Past":
        with db.tenant(self.org) as tx:
            quotas.set_plan(tx, self.org, self.org.org_id, plan)
            quotas.set_limits(tx, self.org, self.org.org_id, **limits)
            billing.grant(tx, self.org, amount_microusd=50_000_000, source_id="test", reason="to test with")
        return self

    def run(self, *, ended_days_ago: float | None) -> UUID:
        """A run with a step, a call of a tool and events; with None it still goes on."""
        with db.tenant(self.org) as tx:
            agent = agents.create_agent(tx, self.org, name="A", config=Config().to_model(), metadata={})
            run_id = runs.create_run(
                tx, self.org, agent_id=agent.id, text="t", budget_microusd=None, timeout_s=None, metadata={}
            ).id
            key = {"org_id": self.org.org_id, "run_id": run_id}
            tx.execute(
                "INSERT INTO run_steps (org_id, run_id, step_no, status, claimed_by, lease_until)"
                " VALUES (%(org_id)s, %(run_id)s, 1, 'done', 'c', now())",
                key,
            )
            tx.execute(
                "INSERT INTO run_tool_calls"
                " (org_id, run_id, step_no, call_no, provider_call_id, name, arguments, status)"
                " VALUES (%(org_id)s, %(run_id)s, 1, 0, 'p', 'memory.save', '{}', 'succeeded')",
                key,
            )
        if ended_days_ago is not None:
            machine.fail(self.org, run_id)
            with db.tenant(self.org) as tx:
                tx.execute(
                    "UPDATE runs SET ended_at = now() - %s WHERE id = %s", (timedelta(days=ended_days_ago), run_id)
                )
        return run_id

    def sandbox(self, *, ended_days_ago: float | None) -> UUID:
        """A sandbox with a command; with None it still lives."""
        with db.tenant(self.org) as tx:
            sandbox_id = sandboxes.create(tx, self.org, ttl_s=60, metadata={}).id
            tx.execute(
                "INSERT INTO sandbox_commands (id, org_id, sandbox_id, source_id, command, status)"
                " VALUES (%s, %s, %s, 's', '{}', 'exited')",
                (ids.new(), self.org.org_id, sandbox_id),
            )
        if ended_days_ago is not None:
            sandboxes.end(self.org, sandbox_id, reason=StopReason.REQUESTED)
            with db.tenant(self.org) as tx:
                ago = timedelta(days=ended_days_ago)
                tx.execute("UPDATE sandboxes SET stopped_at = now() - %s WHERE id = %s", (ago, sandbox_id))
        return sandbox_id

    def call(self, source_id: str, *, days_ago: float) -> None:
        """A model's answer that was given and paid."""
        answer = {"id": "c", "choices": [{"message": {"content": "Hello"}}]}
        with db.tenant(self.org) as tx:
            tx.execute(
                "INSERT INTO inference_calls (id, org_id, source_id, operation, model, input_tokens, cached_tokens,"
                " output_tokens, cost_microusd, latency_ms, answer, created_at)"
                " VALUES (%s, %s, %s, 'chat', 'gpt-5-mini', 3, 0, 2, 7, 1, %s, now() - %s)",
                (ids.new(), self.org.org_id, source_id, Jsonb(answer), timedelta(days=days_ago)),
            )

    def count(self, table: str) -> int:
        with db.tenant(self.org) as tx:
            row = tx.execute(f"SELECT count(*) AS n FROM {table}").fetchone()
        assert row is not None
        return int(row["n"])

    def counts(self) -> dict[str, int]:
        return {table: self.count(table) for table in _TABLES}

    def has_run(self, run_id: UUID) -> bool:
        with db.tenant(self.org) as tx:
            try:
                runs.get_run(tx, self.org, run_id)
            except NotFound:
                return False
        return True

    def answered(self) -> set[str]:
        """The sources of the calls whose answers are there."""
        with db.tenant(self.org) as tx:
            return {
                row["source_id"] for row in tx.execute("SELECT source_id FROM inference_calls WHERE answer IS NOT NULL")
            }


def test_each_plan_keeps_what_ended_for_its_own_time(org: Caller, rival: Caller) -> None:
    free, pro = Past(org).on("free"), Past(rival).on("pro")
    kept = [free.run(ended_days_ago=6.9), pro.run(ended_days_ago=7.1), pro.run(ended_days_ago=29.9)]
    gone = [free.run(ended_days_ago=7.1), pro.run(ended_days_ago=30.1)]
    assert retained()["runs"] == 2
    of = {run_id: free.has_run(run_id) or pro.has_run(run_id) for run_id in kept + gone}
    assert of == dict.fromkeys(kept, True) | dict.fromkeys(gone, False)


def test_a_run_goes_with_all_that_it_did_and_its_cost_stays(org: Caller) -> None:
    past = Past(org).on("free")
    run_id = past.run(ended_days_ago=8)
    ledgers = ("credit_entries", "credit_holds", "audit_events", "agents", "agent_versions", "estimates")
    before = {table: past.count(table) for table in ledgers}
    assert past.count("run_events") > 1
    assert retained() == {"runs": 1, "sandboxes": 0, "answers": 0, "content": 0}
    assert past.counts() == dict.fromkeys(_TABLES, 0)
    # The trail says that it happened.
    assert {table: past.count(table) for table in ledgers} == before | {"audit_events": before["audit_events"] + 1}
    with db.tenant(org) as tx:
        assert billing.check(tx) == []
        (event,) = audit.list_events(tx, Slice(limit=9, before=None), action="run.forget", resource_id=None)
        with pytest.raises(NotFound):
            runs.get_run(tx, org, run_id)
    assert event.actor == "system"
    assert event.new is not None
    assert event.new["runs"] == 1


def test_what_still_goes_on_is_never_deleted_however_old(org: Caller) -> None:
    past = Past(org).on("free")
    run_id, sandbox_id = past.run(ended_days_ago=None), past.sandbox(ended_days_ago=None)
    with db.tenant(org) as tx:
        tx.execute("UPDATE runs SET created_at = now() - interval '1 year' WHERE id = %s", (run_id,))
        tx.execute("UPDATE sandboxes SET created_at = now() - interval '1 year' WHERE id = %s", (sandbox_id,))
    assert retained() == {"runs": 0, "sandboxes": 0, "answers": 0, "content": 0}


def test_a_sandbox_whose_task_may_still_run_is_kept(org: Caller) -> None:
    past = Past(org).on("free")
    gone, stopping = past.sandbox(ended_days_ago=8), past.sandbox(ended_days_ago=8)
    with db.tenant(org) as tx:
        tx.execute("UPDATE sandboxes SET status = 'stopped' WHERE id = %s", (gone,))
        tx.execute("UPDATE sandboxes SET status = 'stopping' WHERE id = %s", (stopping,))
    assert retained()["sandboxes"] == 1
    with db.tenant(org) as tx:
        assert [row["id"] for row in tx.execute("SELECT id FROM sandboxes")] == [stopping]
        assert [row["sandbox_id"] for row in tx.execute("SELECT sandbox_id FROM sandbox_commands")] == [stopping]


def test_an_answer_is_forgotten_and_its_call_is_not(org: Caller) -> None:
    past = Past(org).on("free")
    past.call("old", days_ago=7.1)
    past.call("new", days_ago=6.9)
    assert [retained()["answers"], retained()["answers"]] == [1, 0]
    assert past.answered() == {"new"}
    with db.tenant(org) as tx:
        assert (inference.cost_of(tx, source_id="old"), inference.cost_of(tx, source_id="new")) == (7, 7)


def test_a_request_repeated_after_its_answer_is_gone_says_so_and_costs_nothing(org: Caller, provider: Provider) -> None:
    past = Past(org).on("free")
    past.call("old", days_ago=8)
    retained()
    with db.tenant(org) as tx:
        before = billing.balance(tx)
    request = ChatRequest(messages=[{"role": "user", "content": "Hi"}])
    with pytest.raises(AnswerForgotten):
        inference.complete(org, request=request, source_id="old", max_cost_microusd=None)
    with db.tenant(org) as tx:
        assert billing.balance(tx) == before


def test_memories_are_kept_for_good(org: Caller, provider: Provider) -> None:
    past = Past(org).on("free")
    memories.save(org, content="c", subject="s", source_id="m", max_cost_microusd=None)
    with db.tenant(org) as tx:
        tx.execute("UPDATE memories SET created_at = now() - interval '1 year'")
        tx.execute("UPDATE inference_calls SET created_at = now() - interval '1 year'")
    assert retained()["answers"] == 1
    assert past.count("memories") == 1
    with db.tenant(org) as tx:
        assert memories.cost_of(tx, source_id="m") >= 0


def test_an_org_has_its_own_time_where_the_operator_gave_it_one(org: Caller, rival: Caller) -> None:
    longer, shorter = Past(org).on("free", retention_days=400), Past(rival).on("enterprise", retention_days=1)
    kept, gone = longer.run(ended_days_ago=399), shorter.run(ended_days_ago=1.1)
    assert retained()["runs"] == 1
    assert (longer.has_run(kept), shorter.has_run(gone)) == (True, False)


def test_the_operators_own_plan_keeps_everything(org: Caller) -> None:
    past = Past(org).on("operator")
    past.run(ended_days_ago=3000)
    assert retained()["runs"] == 0


def test_a_downgrade_shortens_the_time_from_the_next_night_on(org: Caller) -> None:
    past = Past(org).on("pro")
    run_id = past.run(ended_days_ago=20)
    retained()
    assert past.has_run(run_id)
    with db.tenant(org) as tx:
        billing.change_plan(tx, org, org.org_id, plan="free", paid=False)
    assert past.has_run(run_id)
    retained()
    assert not past.has_run(run_id)


def test_batches_go_on_until_nothing_is_left_and_the_count_is_logged(org: Caller, logged: Callable[[], str]) -> None:
    past = Past(org).on("team")
    for _ in range(5):
        past.run(ended_days_ago=100)
    assert retain.retain(runs.forget_ended, org.org_id, at_once=2) == 5
    assert past.counts() == dict.fromkeys(_TABLES, 0)
    past.run(ended_days_ago=100)
    retained()
    assert "'runs': 1" in logged()


# Deletes the first batch, tells, and has the second one under way when it is killed.
_KILLED = """
import os, signal, sys
from uuid import UUID
from functions.schedules import retain
from shared.runs import service as runs

batches = 0
def forget(tx, caller, *, before, limit):
    global batches
    done = runs.forget_ended(tx, caller, before=before, limit=limit)
    batches += 1
    if batches == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return done
retain.retain(forget, UUID(sys.argv[1]), at_once=2)
"""


def test_a_night_that_is_killed_keeps_whole_runs_and_the_next_one_goes_on(org: Caller) -> None:
    past = Past(org).on("free")
    for _ in range(5):
        past.run(ended_days_ago=8)
    killed = subprocess.run([sys.executable, "-c", _KILLED, str(org.org_id)], check=False, timeout=60)
    assert killed.returncode == -9
    left = past.counts()
    assert (left["runs"], left["run_steps"], left["run_tool_calls"]) == (3, 3, 3)
    assert retained()["runs"] == 3
    assert past.counts() == dict.fromkeys(_TABLES, 0)


def test_two_nights_at_once_delete_each_thing_once(org: Caller) -> None:
    past = Past(org).on("free")
    for _ in range(3):
        past.run(ended_days_ago=8)
    forget = partial(runs.forget_ended, before=clock.now() - timedelta(days=7), limit=2)
    with db.tenant(org) as one, db.tenant(org) as other:
        assert forget(one, org) == 2
        # The other one takes what is left, and waits for nobody.
        assert forget(other, org) == 1
    assert past.counts() == dict.fromkeys(_TABLES, 0)


def test_no_org_loses_what_is_anothers(org: Caller, rival: Caller) -> None:
    mine, theirs = Past(org).on("free"), Past(rival).on("enterprise")
    mine.run(ended_days_ago=8)
    kept = theirs.run(ended_days_ago=8)
    assert retain.retain(runs.forget_ended, org.org_id) == 1
    assert theirs.has_run(kept)
