"""What is counted is made to agree with what exists, whatever a crash left."""

import importlib
import json
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from uuid import UUID

import psycopg
import pytest

from functions.schedules import reconcile_quotas
from shared.kernel import db, ids
from shared.kernel.caller import Caller
from shared.kernel.errors import QuotaExceeded
from shared.quotas import reconciling
from shared.quotas import service as quotas
from shared.quotas.model import Look
from shared.quotas.plans import Resource
from shared.runs import machine
from shared.runs import service as runs
from tests.api_gateway import Context
from tests.integration.runs.conftest import queued as queued
from tests.services import Services

_ROOT = Path(__file__).resolve().parents[3]
_EVENT = json.loads((_ROOT / "events" / "schedules" / "reconcile_quotas.json").read_text())
_RUNS = Resource.CONCURRENT_RUNS

type Superuser = Callable[..., None]


@pytest.fixture
def superuser(services: Services, database: str) -> Superuser:
    """`superuser("UPDATE …", …)`: what nobody's code would do."""

    def execute(statement: str, *values: object) -> None:
        with psycopg.connect(services.superuser_url(database), autocommit=True) as connection:
            connection.execute(statement, values)

    return execute


@pytest.fixture
def an_hour_passes(superuser: Superuser) -> Callable[[], None]:
    """All that was allocated so far was allocated an hour before."""
    return lambda: superuser("UPDATE quota_allocations SET allocated_at = allocated_at - interval '1 hour'")


def reconciled() -> dict[str, int]:
    found = reconcile_quotas.handler(_EVENT, Context())
    return {resource: count for resource, count in found.items() if count}


def used(org: Caller, resource: Resource = _RUNS) -> int:
    with db.tenant(org) as tx:
        return next(each.used for each in quotas.status(tx, org.org_id) if each.resource is resource)


def allocate(org: Caller, *holders: str) -> None:
    with db.tenant(org) as tx:
        for holder in holders:
            quotas.allocate(tx, org.org_id, _RUNS, holder=holder)


def test_what_agrees_is_left_alone(
    org: Caller, queued: Callable[..., UUID], an_hour_passes: Callable[[], None]
) -> None:
    queued("A")
    queued("B")
    an_hour_passes()
    assert reconciled() == {}
    assert used(org) == 2


def test_an_allocation_of_a_process_killed_before_its_use_is_released(
    org: Caller, an_hour_passes: Callable[[], None]
) -> None:
    command = [sys.executable, "-m", "tests.integration.quotas.allocating", str(org.org_id), str(ids.new())]
    with subprocess.Popen(command, cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "allocated\n"
        process.kill()
    assert used(org) == 1
    # The thing may still be about to come.
    assert reconciled() == {}
    assert used(org) == 1
    an_hour_passes()
    assert reconciled() == {_RUNS: 1}
    assert used(org) == 0


def test_a_thing_that_was_never_counted_is(org: Caller, queued: Callable[..., UUID], superuser: Superuser) -> None:
    run_id = queued("A")
    superuser("DELETE FROM quota_allocations WHERE holder = %s", ids.show("run", run_id))
    superuser("UPDATE quota_usage SET used = 0 WHERE org_id = %s", org.org_id)
    assert reconciled() == {_RUNS: 1}
    assert used(org) == 1


def test_a_thing_that_ended_unnoticed_is_released(
    org: Caller, queued: Callable[..., UUID], superuser: Superuser, an_hour_passes: Callable[[], None]
) -> None:
    ended, going = queued("A"), queued("B")
    superuser("UPDATE runs SET ended_at = now(), status = 'failed', end_reason = 'internal' WHERE id = %s", ended)
    an_hour_passes()
    assert reconciled() == {_RUNS: 1}
    assert used(org) == 1
    with db.tenant(org) as tx:
        assert quotas.release(tx, org.org_id, _RUNS, holder=ids.show("run", going))


def test_a_sum_gone_wrong_is_counted_anew(org: Caller, queued: Callable[..., UUID], superuser: Superuser) -> None:
    queued("A")
    superuser("UPDATE quota_usage SET used = 5 WHERE org_id = %s", org.org_id)
    assert reconciled() == {_RUNS: 1}
    assert used(org) == 1


def test_wrong_amounts_are_corrected(org: Caller, superuser: Superuser) -> None:
    thing = ids.new()
    holder = ids.show("mem", thing)
    with db.tenant(org) as tx:
        quotas.allocate(tx, org.org_id, Resource.STORAGE_BYTES, holder=holder, amount=10)
    corrected = quotas.reconcile(
        org, Resource.STORAGE_BYTES, prefix="mem", holdings=lambda tx, look: [(thing, 25)] if look.after is None else []
    )
    assert (corrected, used(org, Resource.STORAGE_BYTES)) == (1, 25)


def test_holders_that_are_no_ids_are_released(org: Caller, an_hour_passes: Callable[[], None]) -> None:
    allocate(org, "", "run_", "zzz", "run_01h455vb4pex5vsknk084sn02q")
    an_hour_passes()
    assert reconciled() == {_RUNS: 4}
    assert used(org) == 0


def test_a_walk_over_many_pages_finds_what_is_wrong_on_each(
    org: Caller, monkeypatch: pytest.MonkeyPatch, an_hour_passes: Callable[[], None]
) -> None:
    monkeypatch.setattr(reconciling, "_AT_ONCE", 3)
    things = sorted(ids.new() for _ in range(20))
    with db.tenant(org) as tx:
        quotas.set_limits(tx, org, org.org_id, quotas={_RUNS: 100})
    # Every second is counted, and some that there are not.
    allocate(org, *(ids.show("run", thing) for thing in things[::2]), *(ids.show("run", ids.new()) for _ in range(5)))
    an_hour_passes()

    def holdings(tx: db.Tx, look: Look) -> list[tuple[UUID, int]]:
        found = [thing for thing in things if look.after is None or thing > look.after]
        return [(thing, 1) for thing in found if look.among is None or thing in look.among][: look.limit]

    assert quotas.reconcile(org, _RUNS, prefix="run", holdings=holdings) == 15
    assert used(org) == 20
    assert quotas.reconcile(org, _RUNS, prefix="run", holdings=holdings) == 0


def test_one_tenants_trouble_stops_no_other(
    org: Caller,
    rival: Caller,
    monkeypatch: pytest.MonkeyPatch,
    an_hour_passes: Callable[[], None],
) -> None:
    allocate(org, ids.show("run", ids.new()))
    allocate(rival, ids.show("run", ids.new()))
    an_hour_passes()
    holders = runs.holders

    def troubled(tx: db.Tx, look: Look) -> list[tuple[UUID, int]]:
        found = tx.execute("SELECT current_setting('app.current_org_id') AS org_id").fetchone()
        if found == {"org_id": str(org.org_id)}:
            tx.execute("SELECT 1 / 0")
        return holders(tx, look)

    monkeypatch.setitem(reconcile_quotas.HOLDINGS, _RUNS, ("run", troubled))
    with pytest.raises(ExceptionGroup):
        reconcile_quotas.handler(_EVENT, Context())
    assert (used(org), used(rival)) == (1, 0)


def test_runs_come_and_go_while_they_are_counted_anew(org: Caller, queued: Callable[..., UUID]) -> None:
    with db.tenant(org) as tx:
        quotas.set_limits(tx, org, org.org_id, quotas={_RUNS: 4})
    first = queued("first")
    with db.tenant(org) as tx:
        agent_id = runs.get_run(tx, org, first).agent_id
    done = Event()

    def start() -> UUID:
        with db.tenant(org) as tx:
            return runs.create_run(
                tx, org, agent_id=agent_id, text="Go", budget_microusd=1000, timeout_s=None, metadata={}
            ).id

    def come_and_go(_: int) -> int:
        ended = 0
        for _ in range(8):
            try:
                run_id = start()
            except QuotaExceeded:
                continue
            machine.fail(org, run_id)
            ended += 1
        return ended

    def count_anew() -> int:
        corrected = 0
        while not done.is_set():
            corrected += sum(reconciled().values())
        return corrected

    with ThreadPoolExecutor(7) as pool:
        counting = pool.submit(count_anew)
        try:
            ended = list(pool.map(come_and_go, range(6)))
        finally:
            done.set()
        assert counting.result() == 0
    assert sum(ended) > 0
    assert used(org) == 1


def test_every_resource_that_something_holds_has_an_area_that_knows_it() -> None:
    assert set(Resource) - set(reconcile_quotas.HOLDINGS) == {Resource.WEBHOOK_ENDPOINTS}
    assert importlib.import_module("functions.schedules.reconcile_quotas").handler
