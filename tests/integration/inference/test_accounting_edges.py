"""Many calls at the edge of what is there: never more is spent, and nobody is refused for whom room is left."""

import asyncio
import os
import threading
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest

from functions.schedules import reap
from shared.inference import spending
from shared.inference.budgets import Period, Scope
from shared.inference.errors import BudgetExceeded
from shared.kernel import clock, db
from shared.kernel.caller import Caller
from tests.integration.inference.calling import Attempt, books, budget, grant, on_behalf, spent_and_held
from tests.integration.inference.calling_worker import Task, make, open_and_hang, serve
from tests.nursery import Child, Nursery

REFUSED_BY = {"budget": "budget_exceeded", "credits": "insufficient_credits"}


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    with Nursery() as nursery:
        yield nursery


def environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.startswith(("RUNYARD_", "POWERTOOLS_", "AWS_"))}


@pytest.fixture
def worker(database: str, nursery: Nursery) -> Iterator[Child]:
    child = nursery.fork(partial(serve, environment()))
    yield child
    child.pipe.send(None)
    assert child.bury() == 0


def furnish(caller: Caller, edge: str, amount: int) -> None:
    """Let so much be spent: by credits, or by a budget beside plenty of them."""
    grant(caller, amount if edge == "credits" else 10**9)
    if edge == "budget":
        budget(caller, amount)


def at_once(task: Task, worker: Child, *, loops: int = 2) -> Counter[str]:
    """Make the calls from two processes, and here from several event loops."""
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.extend(asyncio.run(make(task)))) for _ in range(loops)]
    worker.pipe.send(task)
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return Counter([*found, *worker.pipe.recv()])


@pytest.mark.parametrize("edge", ["budget", "credits"])
def test_as_many_calls_are_opened_as_there_is_room_for(org: Caller, worker: Child, edge: str) -> None:
    furnish(org, edge, 1_050)
    outcomes = at_once(Task(org, calls=40, most=100, cost=100, wait_s=0), worker)
    assert outcomes == {"ok": 10, REFUSED_BY[edge]: 110}
    assert (books(org).settled, books(org).held) == (1_000, 0)


@pytest.mark.parametrize("edge", ["budget", "credits"])
def test_nobody_is_refused_who_has_room_after_others_have_settled(org: Caller, worker: Child, edge: str) -> None:
    # At most ten at once; each leaves nine tenths of what it held.
    furnish(org, edge, 1_000 + 90)
    outcomes = at_once(Task(org, calls=33, most=100, cost=10, wait_s=30, takes_s=0.01), worker)
    # The last is refused only when less than its worst case is left for good.
    assert outcomes == {"ok": 99}
    assert (books(org).settled, books(org).held) == (990, 0)


def test_a_budget_and_the_credits_at_once(org: Caller, worker: Child) -> None:
    grant(org, 1_000)
    daily = budget(org, 600)
    each_key = budget(org, 550, scope=Scope.KEY, period=Period.TOTAL)
    outcomes = at_once(Task(org, calls=30, most=100, cost=25, wait_s=20, takes_s=0.005), worker)
    spent = outcomes["ok"] * 25
    assert outcomes["ok"] + outcomes["budget_exceeded"] == 90
    # No more than 100 may be left unspent of the narrower one: else another would have fitted.
    assert 450 < spent <= 550
    for budget_id in (daily, each_key):
        assert [held for _, held in spent_and_held(org, budget_id).values()] == [0]
        assert [used for used, _ in spent_and_held(org, budget_id).values()] == [spent]
    assert (books(org).settled, books(org).held) == (spent, 0)


def test_calls_that_pay_nothing_share_a_budget_with_those_that_do(org: Caller, worker: Child) -> None:
    grant(org, 10_000)
    daily = budget(org, 1_000)
    free = Task(org, calls=20, most=50, cost=50, wait_s=0, pays=False)
    worker.pipe.send(free)
    outcomes = Counter([*asyncio.run(make(Task(org, calls=20, most=50, cost=50, wait_s=0))), *worker.pipe.recv()])
    assert outcomes == {"ok": 20, "budget_exceeded": 20}
    assert list(spent_and_held(org, daily).values()) == [(1_000, 0)]


def test_a_hundred_calls_around_midnight_spend_of_two_days_no_more_than_each_has(
    org: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    grant(org, 10**9)
    daily = budget(org, 500)
    midnight = datetime(2026, 11, 22, tzinfo=UTC)
    ticks = iter(range(10**6))
    monkeypatch.setattr(clock, "now", lambda: midnight + timedelta(milliseconds=next(ticks) - 115))
    task = Task(org, calls=50, most=100, cost=60, wait_s=0.5)

    async def work() -> Counter[str]:
        return Counter([outcome for each in await asyncio.gather(make(task), make(task)) for outcome in each])

    outcomes = asyncio.run(work())
    days = spent_and_held(org, daily)
    assert set(days) == {("", "2026-11-21"), ("", "2026-11-22")}
    assert all(spent <= 500 and held == 0 for spent, held in days.values())
    assert sum(spent for spent, _ in days.values()) == outcomes["ok"] * 60 == books(org).settled


@pytest.mark.parametrize("pays", [True, False], ids=["pays", "pays nothing"])
def test_what_a_killed_worker_held_is_given_back_when_its_time_is_up(
    org: Caller, nursery: Nursery, monkeypatch: pytest.MonkeyPatch, pays: bool
) -> None:
    grant(org, 1_000)
    daily = budget(org, 1_000)
    caller = org if pays else on_behalf(org)
    kept = Attempt(caller=caller, pays=pays, most=50)
    asyncio.run(kept.open())
    child = nursery.fork(
        partial(open_and_hang, environment(), [Attempt(caller=caller, pays=pays, most=100) for _ in range(3)])
    )
    assert child.pipe.recv() == "opened"
    child.kill()
    child.bury()
    assert [held for _, held in spent_and_held(org, daily).values()] == [350]
    assert spending.orgs_with_expired_budget_holds() == []
    asyncio.run(kept.close(20))

    monkeypatch.setattr(clock, "now", lambda: datetime.now(UTC) + timedelta(minutes=6))
    for job in (reap.release_holds, reap.release_budgets):
        job(org.org_id)
    assert list(spent_and_held(org, daily).values()) == [(20, 0)]
    assert (books(org).held, books(org).settled) == (0, 20 if pays else 0)


def test_giving_back_what_expired_twice_gives_back_once(org: Caller, rival: Caller) -> None:
    daily = budget(org, 1_000)
    asyncio.run(Attempt(caller=on_behalf(org), pays=False, most=100).open())
    with db.tenant(org) as tx:
        tx.execute("DELETE FROM inference_budget_holds")
        tx.execute(
            """INSERT INTO inference_budget_holds (org_id, call_id, budget_id, subject, period_start, amount_microusd,
                                                   expires_at)
               SELECT org_id, gen_random_uuid(), budget_id, subject, period_start, 100, now() - interval '1 minute'
                 FROM inference_budget_spending""",
        )
    assert spending.orgs_with_expired_budget_holds() == [org.org_id]
    caller = Caller.system(org.org_id)
    for released in (1, 0):
        with db.tenant(caller) as tx:
            assert spending.release_expired_budget_holds(tx, caller) == released
    with db.tenant(Caller.system(rival.org_id)) as tx:
        assert spending.release_expired_budget_holds(tx, Caller.system(rival.org_id)) == 0
    assert spent_and_held(org, daily) == {}
    assert spending.orgs_with_expired_budget_holds() == []


def test_a_period_never_ends_with_more_than_its_limit(org: Caller) -> None:
    """Chance decides what each call holds, costs and takes; the budget and the books agree whatever it decides."""
    import random

    chance = random.Random(5)
    grant(org, 10**9)
    monthly = budget(org, 5_000, period=Period.MONTH)

    async def one() -> int:
        most = chance.randint(1, 400)
        cost = chance.randint(0, most)
        attempt = Attempt(caller=org, most=most, wait_s=chance.choice([0, 0, 5]))
        await asyncio.sleep(chance.random() / 2)
        try:
            await attempt.open()
        except BudgetExceeded:
            return 0
        await asyncio.sleep(chance.random() / 50)
        await attempt.close(cost)
        return cost

    async def work() -> int:
        return sum(await asyncio.gather(*[one() for _ in range(150)]))

    spent = asyncio.run(work())
    [(told, held)] = spent_and_held(org, monthly).values()
    assert told == spent == books(org).settled
    assert held == 0
    assert 0 < spent <= 5_000
