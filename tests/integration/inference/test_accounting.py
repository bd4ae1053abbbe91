"""A model call is held, recorded, paid and counted; whatever else happens, the sums agree."""

import asyncio

import pytest

from shared.billing import service as billing
from shared.billing.model import HoldReleased
from shared.inference import store
from shared.inference.calls import Call, Outcome
from shared.kernel import db
from shared.kernel.caller import Caller
from shared.kernel.pagination import Slice
from tests.integration.inference.calling import (
    Attempt,
    Books,
    books,
    budget,
    grant,
    spent_and_held,
)


def recorded(caller: Caller) -> list[Call]:
    with db.tenant(caller) as tx:
        return store.list_calls(tx, Slice(limit=100), store.Filter())


def test_a_call_is_held_then_recorded_paid_and_counted(org: Caller) -> None:
    grant(org, 1_000)

    async def work() -> None:
        attempt = Attempt(caller=org, most=100)
        opened = await attempt.open()
        assert opened.hold == f"{attempt.opening().source_id}/{attempt.call_id.hex}"
        assert (books(org).available, books(org).held) == (900, 100)
        call = await attempt.close(30, answer={"said": 'a "quoted" \\ word, {braces}'})
        assert (call.id, call.cost_microusd) == (attempt.call_id, 30)

    asyncio.run(work())
    assert books(org) == Books(
        available=970, held=0, settled=30, calls=1, cost_of_calls=30, cost_of_usage=30, requests=1
    )
    [call] = recorded(org)
    assert call.answer == {"said": 'a "quoted" \\ word, {braces}'}
    assert call.attribution == org.attribution


def test_many_calls_at_once_come_out_even(org: Caller, rival: Caller) -> None:
    grant(org, 100_000)
    grant(rival, 100_000)

    async def work() -> None:
        await asyncio.gather(*[Attempt(caller=caller).go(n) for n in range(60) for caller in (org, rival)])

    asyncio.run(work())
    cost = sum(range(60))
    for caller in (org, rival):
        assert books(caller) == Books(
            available=100_000 - cost,
            held=0,
            settled=cost,
            calls=60,
            cost_of_calls=cost,
            cost_of_usage=cost,
            requests=60,
        )


def test_requests_are_counted_for_whom_they_are(org: Caller) -> None:
    grant(org, 10_000)
    other = Caller(**{name: getattr(org, name) for name in Caller.__slots__} | {"actor_id": "key_other"})

    async def work() -> None:
        calls = [(org, True), (org, True), (other, True), (org, False)]
        await asyncio.gather(*[_go(Attempt(caller=caller), counted) for caller, counted in calls])

    async def _go(attempt: Attempt, counted: bool) -> None:
        await attempt.open()
        await attempt.close(1, counted=counted)

    asyncio.run(work())
    with db.tenant(org) as tx:
        rows = tx.execute("SELECT actor_id, sum(calls)::int AS n FROM api_calls GROUP BY actor_id").fetchall()
    assert {row["actor_id"]: row["n"] for row in rows} == {org.actor_id: 2, "key_other": 1}


def test_what_a_cache_answered_is_recorded_and_counted_without_being_opened(org: Caller) -> None:
    asyncio.run(Attempt(caller=org).close(0))
    assert books(org) == Books(available=0, held=0, settled=0, calls=1, cost_of_calls=0, cost_of_usage=0, requests=1)


def test_a_repeatable_source_is_answered_as_the_first_time(org: Caller) -> None:
    grant(org, 1_000)

    async def work() -> None:
        first = Attempt(caller=org, source_id="run_1/1", repeatable=True)
        await first.open()
        await first.close(30, answer={"said": "first"})
        again = await Attempt(caller=org, source_id="run_1/1", repeatable=True).open()
        assert again.hold is None
        assert again.known is not None
        assert (again.known.id, again.known.answer) == (first.call_id, {"said": "first"})

    asyncio.run(work())
    assert books(org) == Books(
        available=970, held=0, settled=30, calls=1, cost_of_calls=30, cost_of_usage=30, requests=1
    )


def test_of_two_attempts_at_one_source_the_first_is_paid_and_the_other_costs_nothing(org: Caller) -> None:
    grant(org, 1_000)
    daily = budget(org, 1_000)

    async def work() -> None:
        attempts = [Attempt(caller=org, source_id="run_1/1", repeatable=True) for _ in range(5)]
        await asyncio.gather(*[attempt.open() for attempt in attempts])
        assert books(org).held == 500
        closed = await asyncio.gather(*[attempt.close(n) for n, attempt in enumerate(attempts, start=30)])
        assert len({call.id for call in closed}) == 1

    asyncio.run(work())
    found = books(org)
    [(spent, held)] = spent_and_held(org, daily).values()
    assert (found.held, found.calls, held) == (0, 1, 0)
    assert found.settled == found.cost_of_calls == found.cost_of_usage == spent
    # All of them were answered.
    assert found.requests == 5


@pytest.mark.parametrize("outcome", [Outcome.FAILED, Outcome.BROKEN, Outcome.CANCELLED])
def test_a_call_that_did_not_end_well_leaves_its_source_free(org: Caller, outcome: Outcome) -> None:
    grant(org, 1_000)
    cost = 0 if outcome is Outcome.FAILED else 20

    async def work() -> None:
        first = Attempt(caller=org, source_id="run_1/1", repeatable=True)
        await first.open()
        call = await first.close(cost, outcome=outcome)
        assert call.source_id == f"run_1/1/{outcome}/{first.call_id.hex}"
        second = Attempt(caller=org, source_id="run_1/1", repeatable=True)
        assert (await second.open()).known is None
        await second.close(30)

    asyncio.run(work())
    spent = cost + 30
    assert books(org) == Books(
        available=1_000 - spent, held=0, settled=spent, calls=2, cost_of_calls=spent, cost_of_usage=spent, requests=2
    )
    with db.tenant(org) as tx:
        assert store.cost_under(tx, "run_1/") == spent


def test_a_closing_delivered_twice_is_paid_and_counted_once(org: Caller) -> None:
    grant(org, 1_000)
    daily = budget(org, 1_000)

    async def work() -> None:
        attempt = Attempt(caller=org)
        await attempt.open()
        assert await attempt.close(30) == await attempt.close(30)

    asyncio.run(work())
    assert books(org) == Books(
        available=970, held=0, settled=30, calls=1, cost_of_calls=30, cost_of_usage=30, requests=1
    )
    assert list(spent_and_held(org, daily).values()) == [(30, 0)]


def test_a_settlement_that_comes_too_late_fails_alone(org: Caller) -> None:
    grant(org, 1_000)

    async def work() -> None:
        attempts = [Attempt(caller=org) for _ in range(8)]
        await asyncio.gather(*[attempt.open() for attempt in attempts])
        with db.tenant(org) as tx:
            billing.release(tx, org, source_id=attempts[3].opening().hold)
        closed = await asyncio.gather(*[attempt.close(10) for attempt in attempts], return_exceptions=True)
        assert [type(outcome) for outcome in closed].count(Call) == 7
        assert isinstance(closed[3], HoldReleased)

    asyncio.run(work())
    assert books(org) == Books(
        available=930, held=0, settled=70, calls=7, cost_of_calls=70, cost_of_usage=70, requests=7
    )
