"""The AgentRun machine's steps over real Postgres, Redis and a real provider: each may come twice, at any point."""

import itertools
import threading
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from uuid import UUID

import psycopg
import pytest

from shared.billing import service as billing
from shared.billing.model import Balance
from shared.events import service as events
from shared.inference.errors import BudgetExceeded
from shared.kernel import db, settings
from shared.kernel.caller import Caller
from shared.kernel.errors import ProviderFailed
from shared.kernel.pagination import Slice
from shared.memory import service as memories
from shared.runs import machine, store
from shared.runs import service as runs
from shared.runs.model import LEASE, EndReason, Run, RunEnded, RunStatus, StepBusy, StepLimitReached
from tests.integration.runs.conftest import CREDITS
from tests.model_provider import Provider
from tests.services import Services

Queued = Callable[..., UUID]
REMEMBER = "offline: say remembered"


def drive(caller: Caller, run_id: UUID, *, times: int = 1) -> Run:
    """Take the run through its states as the state machine does, each step `times` times."""

    def repeated[T](step: Callable[[], T]) -> T:
        return [step() for _ in range(times)][-1]

    repeated(lambda: machine.prepare(caller, run_id))
    for step_no in itertools.count(1):
        calls = repeated(partial(machine.think, caller, run_id, step_no, worker="w"))
        if not calls:
            break
        for call_no in calls:
            repeated(partial(machine.act, caller, run_id, step_no, call_no))
    return repeated(lambda: machine.finish(caller, run_id))


def balance(caller: Caller) -> Balance:
    with db.tenant(caller) as tx:
        assert billing.check(tx) == []
        return billing.balance(tx)


def types_of_events(caller: Caller, run_id: UUID) -> list[str]:
    with db.tenant(caller) as tx:
        _, found = runs.events_after(tx, caller, run_id, 0)
    assert [event.seq for event in found] == list(range(1, len(found) + 1))
    return [event.type for event in found]


def asks_for_memory(provider: Provider, content: str) -> None:
    """Let the model's next answer be one call of memory.save."""
    call = {"id": "call_1", "type": "function", "function": {"name": "memory_save", "arguments": content}}
    provider.answers(
        {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1,
            "model": "runyard-offline",
            "choices": [
                {
                    "index": 0,
                    "finish_reason": "tool_calls",
                    "message": {"role": "assistant", "content": None, "tool_calls": [call]},
                }
            ],
            "usage": {"prompt_tokens": 50, "completion_tokens": 10, "total_tokens": 60},
        }
    )


def test_a_run_answers_and_pays_for_exactly_what_it_used(org: Caller, queued: Queued, provider: Provider) -> None:
    run_id = queued("offline: say forty-two")
    run = drive(org, run_id)
    assert run.status is RunStatus.SUCCEEDED
    assert run.output == "forty-two"
    assert 0 < run.cost_microusd <= run.budget_microusd
    after = balance(org)
    assert after.available_microusd == CREDITS - run.cost_microusd
    assert after.held_microusd == 0


def test_every_step_delivered_twice_changes_nothing(org: Caller, queued: Queued, provider: Provider) -> None:
    run_id = queued("remember it")
    asks_for_memory(provider, '{"content": "the sky is blue"}')
    run = drive(org, run_id, times=2)
    assert run.status is RunStatus.SUCCEEDED
    assert types_of_events(org, run_id) == [
        "run.queued",
        "run.started",
        "run.step.thought",
        "run.tool.completed",
        "run.step.thought",
        "run.succeeded",
    ]
    with db.tenant(org) as tx:
        assert len(memories.list_memories(tx, org, Slice(limit=100))) == 1
    assert [asked.path for asked in provider.asked].count("/v1/chat/completions") == 2
    assert balance(org).available_microusd == CREDITS - run.cost_microusd


def test_a_step_held_by_another_worker_is_left_to_it(org: Caller, queued: Queued, provider: Provider) -> None:
    run_id = queued("offline: say hello")
    machine.prepare(org, run_id)
    provider.gate = threading.Barrier(2)
    other = threading.Thread(target=machine.think, args=(org, run_id, 1), kwargs={"worker": "first"})
    other.start()
    while not provider.asked:
        other.join(0.01)
    with pytest.raises(StepBusy):
        machine.think(org, run_id, 1, worker="second")
    provider.gate.wait(30)
    other.join()
    assert machine.think(org, run_id, 1, worker="second") == []


def test_a_dead_workers_step_is_taken_over_once_its_lease_is_over(
    org: Caller, queued: Queued, provider: Provider
) -> None:
    run_id = queued("offline: say hello")
    machine.prepare(org, run_id)
    with db.tenant(org) as tx:
        # All that is left of a worker that was killed while it thought.
        assert store.claim_step(tx, run_id, 1, worker="killed", lease=LEASE)
    with pytest.raises(StepBusy):
        machine.think(org, run_id, 1, worker="too early")
    with db.tenant(org) as tx:
        tx.execute("UPDATE run_steps SET lease_until = now() - interval '1 second'")
    assert machine.think(org, run_id, 1, worker="later") == []
    with db.tenant(org) as tx:
        (step,) = runs.list_steps(tx, org, run_id)
    assert step.attempts == 2


def test_a_step_whose_model_call_failed_may_be_tried_again_at_once(
    org: Caller, queued: Queued, provider: Provider
) -> None:
    run_id = queued("offline: say hello")
    machine.prepare(org, run_id)
    provider.fails(500, times=1)
    with pytest.raises(ProviderFailed):
        machine.think(org, run_id, 1, worker="first")
    assert machine.think(org, run_id, 1, worker="second") == []


def test_a_cancelled_run_takes_no_further_step_and_costs_no_more(
    org: Caller, queued: Queued, provider: Provider, services: Services
) -> None:
    run_id = queued("remember it")
    machine.prepare(org, run_id)
    asks_for_memory(provider, '{"content": "x"}')
    machine.think(org, run_id, 1, worker="w")
    # Step Functions can't be reached here: the run is cancelled all the same.
    runs.cancel_run(org, run_id)
    for step in (
        lambda: machine.prepare(org, run_id),
        lambda: machine.act(org, run_id, 1, 0),
        lambda: machine.think(org, run_id, 2, worker="w"),
    ):
        with pytest.raises(RunEnded):
            step()
    with db.tenant(org) as tx:
        run = runs.get_run(tx, org, run_id)
    assert run.end_reason is EndReason.CANCELLED_BY_USER
    assert balance(org).available_microusd == CREDITS - run.cost_microusd
    assert machine.finish(org, run_id) == run


def test_a_run_stops_at_its_step_limit(org: Caller, queued: Queued, provider: Provider) -> None:
    run_id = queued("remember it", max_steps=1)
    asks_for_memory(provider, '{"content": "x"}')
    with pytest.raises(StepLimitReached):
        drive(org, run_id)
    machine.recover(org, run_id, reason=EndReason.STEP_LIMIT, failure="too many steps")
    run = machine.fail(org, run_id)
    assert (run.status, run.end_reason, run.failure) == (RunStatus.FAILED, EndReason.STEP_LIMIT, "too many steps")
    assert balance(org).held_microusd == 0


def test_a_run_never_costs_more_than_its_budget(org: Caller, queued: Queued, provider: Provider) -> None:
    run_id = queued("offline: say hello", budget_microusd=1)
    with pytest.raises(BudgetExceeded):
        drive(org, run_id)
    assert provider.asked == []
    run = machine.fail(org, run_id)
    assert run.cost_microusd == 0
    assert balance(org).available_microusd == CREDITS


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("not json", "invalid_arguments"),
        ('{"content": ""}', "invalid_arguments"),
        ('{"content": "x", "color": "red"}', "invalid_arguments"),
        ('{"content": "   "}', "error"),
    ],
)
def test_a_tools_failure_is_told_to_the_model_and_the_run_goes_on(
    org: Caller, queued: Queued, provider: Provider, arguments: str, told: str
) -> None:
    run_id = queued("remember it")
    asks_for_memory(provider, arguments)
    run = drive(org, run_id)
    assert run.status is RunStatus.SUCCEEDED
    with db.tenant(org) as tx:
        call = runs.list_steps(tx, org, run_id)[0].calls[0]
    assert call.status == "failed"
    assert told in (call.result or "")


def test_a_run_goes_on_while_redis_is_gone(org: Caller, queued: Queued, provider: Provider, services: Services) -> None:
    run_id = queued("remember it")
    asks_for_memory(provider, '{"content": "without a cache"}')
    services.redis.stop()
    try:
        assert drive(org, run_id).status is RunStatus.SUCCEEDED
    finally:
        services.redis.start()


def test_a_run_survives_every_connection_to_postgres_being_cut_between_its_steps(
    org: Caller, queued: Queued, provider: Provider, database: str
) -> None:
    run_id = queued("remember it")
    asks_for_memory(provider, '{"content": "cut off"}')
    machine.prepare(org, run_id)
    _cut_connections(database)
    assert machine.think(org, run_id, 1, worker="w") == [0]
    _cut_connections(database)
    machine.act(org, run_id, 1, 0)
    _cut_connections(database)
    assert machine.think(org, run_id, 2, worker="w") == []
    _cut_connections(database)
    assert machine.finish(org, run_id).status is RunStatus.SUCCEEDED


def test_another_tenants_run_does_not_exist(org: Caller, rival: Caller, queued: Queued, provider: Provider) -> None:
    run_id = queued("offline: say hello")
    for step in (
        lambda: machine.prepare(rival, run_id),
        lambda: machine.think(rival, run_id, 1, worker="w"),
        lambda: machine.finish(rival, run_id),
        lambda: machine.fail(rival, run_id),
    ):
        with pytest.raises(Exception, match="No run has the id"):
            step()


def test_a_stalled_run_makes_its_tenant_show_up_for_the_reaper(org: Caller, rival: Caller, queued: Queued) -> None:
    run_id = queued("offline: say hello")
    with db.tenant(org) as tx:
        tx.execute("UPDATE runs SET progressed_at = now() - interval '1 hour' WHERE id = %s", (run_id,))
        tx.execute("UPDATE outbox SET sent_at = now()")
    assert events.orgs_with_work(zombie_after=timedelta(minutes=30)) == [org.org_id]
    assert events.orgs_with_work(zombie_after=timedelta(hours=2)) == []


def _cut_connections(database: str) -> None:
    """End every backend of the test's database but the one that does so."""
    with psycopg.connect(settings.database().url, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s AND pid <> pg_backend_pid()",
            (database,),
        )
