"""What breaks between a model call and its books: connections, the database, callers who leave, odd text."""

import asyncio
from datetime import timedelta

import pytest

from shared.inference.calls import Call
from shared.kernel import clock, db
from shared.kernel.caller import Caller
from shared.kernel.errors import Unavailable
from tests.integration.inference.calling import (
    Attempt,
    Books,
    books,
    budget,
    grant,
    spent_and_held,
)
from tests.services import Services


def test_a_killed_database_connection_costs_no_call(org: Caller, services: Services, database: str) -> None:
    import psycopg

    grant(org, 100_000)
    budget(org, 100_000)

    async def killing(calls: asyncio.Future[list[Call]]) -> int:
        killed = times = 0
        with psycopg.connect(services.superuser_url(database), autocommit=True) as superuser:
            while not calls.done() and times < 4:
                await asyncio.sleep(0.15)
                times += 1
                row = superuser.execute(
                    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
                    "WHERE datname = current_database() AND pid <> pg_backend_pid()"
                ).fetchone()
                killed += 0 if row is None else row[0]
        return killed

    async def work() -> None:
        calls = asyncio.gather(*[slowly(n) for n in range(40)])
        assert await killing(calls) > 0
        await calls

    async def slowly(n: int) -> Call:
        await asyncio.sleep(n / 50)
        attempt = Attempt(caller=org)
        for _ in range(10):
            try:
                await attempt.open()
                break
            except Unavailable:
                continue
        for _ in range(10):
            try:
                return await attempt.close(10)
            except Unavailable:
                continue
        raise AssertionError("the database was never there")

    asyncio.run(work())
    db.close()
    assert books(org) == Books(
        available=99_600, held=0, settled=400, calls=40, cost_of_calls=400, cost_of_usage=400, requests=40
    )


def test_without_a_database_all_are_told_so(org: Caller, services: Services) -> None:
    grant(org, 1_000)
    db.close()
    services.postgres.stop()
    try:

        async def work() -> list[object]:
            return await asyncio.gather(*[Attempt(caller=org).open() for _ in range(20)], return_exceptions=True)

        began = clock.monotonic_ms()
        outcomes = asyncio.run(work())
        assert {type(outcome) for outcome in outcomes} == {Unavailable}
        assert len({id(outcome) for outcome in outcomes}) == 20
        assert clock.monotonic_ms() - began < 15_000
    finally:
        services.postgres.start()


def test_a_caller_who_leaves_while_a_call_is_opened_leaves_nothing_held(org: Caller) -> None:
    grant(org, 10_000)
    daily = budget(org, 10_000)

    async def work() -> None:
        attempts = [asyncio.create_task(Attempt(caller=org).open()) for _ in range(30)]
        await asyncio.sleep(0.002)
        for attempt in attempts:
            attempt.cancel()
        await asyncio.gather(*attempts, return_exceptions=True)
        # It comes after all that is given back.
        await Attempt(caller=org).go(5)

    asyncio.run(work())
    assert (books(org).held, books(org).settled) == (0, 5)
    assert list(spent_and_held(org, daily).values()) == [(5, 0)]


def test_a_caller_who_leaves_while_a_call_is_closed_has_it_paid(org: Caller) -> None:
    grant(org, 1_000)

    async def work() -> None:
        attempt = Attempt(caller=org)
        await attempt.open()
        closing = asyncio.create_task(attempt.close(30))
        await asyncio.sleep(0)
        closing.cancel()
        await asyncio.gather(closing, return_exceptions=True)
        await Attempt(caller=org).go(5)

    asyncio.run(work())
    assert (books(org).held, books(org).settled, books(org).calls) == (0, 35, 2)


def test_text_that_the_database_cannot_hold_fails_its_call_alone(org: Caller) -> None:
    grant(org, 1_000)

    async def work() -> list[object]:
        attempts = [Attempt(caller=org, source_id=f"s{n}\0" if n == 4 else f"s{n}") for n in range(9)]
        return await asyncio.gather(*[attempt.go(10) for attempt in attempts], return_exceptions=True)

    outcomes = asyncio.run(work())
    assert [n for n, outcome in enumerate(outcomes) if isinstance(outcome, Exception)] == [4]
    assert books(org).settled == 80


def test_accounting_is_one_round_trip_to_ask_and_one_to_write(org: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    """Statements of a transaction wait for results once, and for its end once."""
    from psycopg import Pipeline

    grant(org, 1_000)
    waits: list[str] = []
    fetch, leave = Pipeline._fetch_gen, Pipeline._exit_gen

    def fetching(self: Pipeline, *, flush: bool) -> object:
        if self.result_queue and flush and waits[-1:] != ["leaving"]:
            waits.append("asking")
        return fetch(self, flush=flush)

    def leaving(self: Pipeline) -> object:
        waits.append("leaving")
        return leave(self)

    async def work() -> None:
        attempt = Attempt(caller=org)
        await attempt.open()
        await attempt.close(10)
        monkeypatch.setattr(Pipeline, "_fetch_gen", fetching)
        monkeypatch.setattr(Pipeline, "_exit_gen", leaving)
        attempt = Attempt(caller=org)
        await attempt.open()
        assert waits == ["asking", "leaving"]
        waits.clear()
        await attempt.close(10)
        assert waits == ["asking", "leaving"]

    asyncio.run(work())


def test_holds_expire_some_time_after_the_call(org: Caller) -> None:
    grant(org, 1_000)

    async def work() -> None:
        await Attempt(caller=org).open()

    asyncio.run(work())
    with db.tenant(org) as tx:
        row = tx.execute("SELECT expires_at FROM credit_holds").fetchone()
    assert row is not None
    assert timedelta(minutes=4) < row["expires_at"] - clock.now() < timedelta(minutes=6)
