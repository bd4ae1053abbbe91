"""A call that finds no room waits for those under way, and for nothing else."""

import asyncio
import time
from datetime import timedelta

import pytest

from shared.inference import accounting, booking
from shared.inference.bookable import Item, Later, Numbered, Opened
from shared.inference.errors import BudgetExceeded
from shared.kernel import clock, db
from shared.kernel.caller import Caller
from shared.kernel.errors import InsufficientCredits
from tests.integration.inference.calling import Attempt, books, budget, grant, spent_and_held

REFUSED_BY = {"budget": "budget_exceeded", "credits": "insufficient_credits"}


def furnish(caller: Caller, edge: str, amount: int) -> None:
    """Let so much be spent: by credits, or by a budget beside plenty of them."""
    grant(caller, amount if edge == "credits" else 10**9)
    if edge == "budget":
        budget(caller, amount)


@pytest.mark.parametrize("edge", ["budget", "credits"])
def test_a_call_that_waits_goes_as_soon_as_another_of_its_worker_ends(
    org: Caller, monkeypatch: pytest.MonkeyPatch, edge: str
) -> None:
    # It won't look by itself.
    monkeypatch.setattr(accounting, "_FIRST_LOOK_S", 30.0)
    furnish(org, edge, 150)

    async def work() -> float:
        first, second = Attempt(caller=org, most=100), Attempt(caller=org, most=100, wait_s=30)
        await first.open()
        waiting = asyncio.create_task(second.open())
        await asyncio.sleep(0.5)
        assert not waiting.done()
        began = time.monotonic()
        await first.close(10)
        await waiting
        return time.monotonic() - began

    assert asyncio.run(work()) < 10


@pytest.mark.parametrize("edge", ["budget", "credits"])
def test_a_call_that_waits_is_refused_when_its_time_is_up(org: Caller, edge: str) -> None:
    furnish(org, edge, 150)

    async def work() -> float:
        await Attempt(caller=org, most=100).open()
        began = time.monotonic()
        with pytest.raises((BudgetExceeded, InsufficientCredits)) as refused:
            await Attempt(caller=org, most=100, wait_s=0.3).open()
        assert refused.value.code == REFUSED_BY[edge]
        return time.monotonic() - began

    assert 0.3 <= asyncio.run(work()) < 2


@pytest.mark.parametrize("edge", ["budget", "credits"])
def test_what_is_spent_for_good_is_not_waited_for(org: Caller, edge: str) -> None:
    furnish(org, edge, 150)

    async def work() -> float:
        await Attempt(caller=org, most=100).go(100)
        began = time.monotonic()
        with pytest.raises((BudgetExceeded, InsufficientCredits)):
            await Attempt(caller=org, most=100, wait_s=30).open()
        return time.monotonic() - began

    assert asyncio.run(work()) < 5


def test_credits_that_something_else_holds_are_not_waited_for(org: Caller) -> None:
    from shared.billing import service as billing

    grant(org, 150)
    with db.tenant(org) as tx:
        billing.hold(tx, org, amount_microusd=100, source_id="run_1", expires_at=clock.now() + timedelta(hours=1))

    async def work() -> float:
        began = time.monotonic()
        with pytest.raises(InsufficientCredits):
            await Attempt(caller=org, most=100, wait_s=30).open()
        return time.monotonic() - began

    assert asyncio.run(work()) < 5


def test_of_those_that_want_the_same_room_at_once_the_oldest_gets_it(org: Caller) -> None:
    furnish(org, "budget", 100)
    attempts = [Attempt(caller=org, most=100) for _ in range(3)]
    items = [Numbered(number, attempt.opening()) for number, attempt in zip((7, 5, 6), attempts, strict=True)]
    outcomes = booking.book(org.org_id, items)
    assert [isinstance(outcome, Opened) for outcome in outcomes] == [False, True, False]


def test_what_a_call_gives_back_is_there_for_those_that_are_opened_with_it(org: Caller) -> None:
    grant(org, 100)
    budget(org, 110)
    first, second = Attempt(caller=org, most=100), Attempt(caller=org, most=100)

    async def work() -> None:
        await first.open()

    asyncio.run(work())
    later = Numbered(1, second.opening())
    assert isinstance(booking.book(org.org_id, [later])[0], Later)
    _, opened = booking.book(org.org_id, [first.closing(0), later])
    assert isinstance(opened, Opened)


def test_a_transaction_that_is_done_again_does_nothing_more(org: Caller) -> None:
    """As after a connection that broke before it could tell that it was committed."""
    grant(org, 1_000)
    daily = budget(org, 1_000)
    first, second = Attempt(caller=org, most=100), Attempt(caller=org, most=100)
    system = Caller.system(org.org_id)

    async def work() -> None:
        await first.open()

    asyncio.run(work())
    items: list[Item] = [first.closing(30), Numbered(1, second.opening())]
    done = booking.book(org.org_id, items)
    sums, spendings = books(org), spent_and_held(org, daily)
    assert booking._transact(system, items, again=True) == done
    assert (books(org), spent_and_held(org, daily)) == (sums, spendings)
    assert (sums.held, sums.settled, sums.calls, sums.requests) == (100, 30, 1, 1)


def test_a_call_that_waits_and_is_given_up_holds_nothing(org: Caller) -> None:
    furnish(org, "budget", 100)

    async def work() -> None:
        first = Attempt(caller=org, most=100)
        await first.open()
        waiting = asyncio.create_task(Attempt(caller=org, most=100, wait_s=30).open())
        await asyncio.sleep(0.1)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        await first.close(0)
        await Attempt(caller=org, most=100).go(0)

    asyncio.run(work())
    assert books(org).held == 0
