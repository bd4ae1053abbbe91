"""Many workers at one account: as many succeed as the credits allow, and each cause has one effect."""

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier

from shared.billing import service
from shared.billing.model import HoldReleased, HoldSettled
from shared.kernel import clock, db
from shared.kernel.caller import Caller
from shared.kernel.db import Tx
from shared.kernel.errors import InsufficientCredits, RunyardError

WORKERS = 8


def at_once(caller: Caller, operations: list[Callable[[Tx], object]]) -> list[object]:
    """Run the operations from `WORKERS` threads that start together; return each one's result or domain error."""
    start = Barrier(WORKERS)

    def work(number: int) -> list[object]:
        results: list[object] = []
        start.wait(timeout=30)
        for operation in operations[number::WORKERS]:
            try:
                with db.tenant(caller) as tx:
                    results.append(operation(tx))
            except RunyardError as error:
                results.append(error)
        return results

    with ThreadPoolExecutor(WORKERS) as pool:
        return [result for results in pool.map(work, range(WORKERS)) for result in results]


def grant(caller: Caller, amount: int) -> None:
    with db.tenant(caller) as tx:
        service.grant(tx, caller, amount_microusd=amount, source_id="plan:free", reason="test")


def holding(caller: Caller, source: str, amount: int = 10) -> Callable[[Tx], object]:
    expires_at = clock.now() + timedelta(hours=1)
    return lambda tx: service.hold(tx, caller, amount_microusd=amount, source_id=source, expires_at=expires_at)


def available_and_held(caller: Caller) -> tuple[int, int]:
    with db.tenant(caller) as tx:
        assert service.check(tx) == []
        balance = service.balance(tx)
    return balance.available_microusd, balance.held_microusd


def test_exactly_as_many_holds_succeed_as_the_credits_allow(org: Caller) -> None:
    grant(org, 375)
    results = at_once(org, [holding(org, f"run:{n}") for n in range(60)])
    assert sum(isinstance(result, InsufficientCredits) for result in results) == 60 - 37
    assert available_and_held(org) == (5, 370)


def test_one_hold_delivered_by_many_workers_at_once_holds_once(org: Caller) -> None:
    grant(org, 100)
    results = at_once(org, [holding(org, "run:1")] * 24)
    assert len({result.id for result in results}) == 1  # type: ignore[attr-defined]
    assert available_and_held(org) == (90, 10)


def test_the_first_grant_of_an_account_delivered_by_many_workers_at_once_is_granted_once(org: Caller) -> None:
    at_once(
        org,
        [lambda tx: service.grant(tx, org, amount_microusd=100, source_id="plan:free", reason="test")] * 16,
    )
    assert available_and_held(org) == (100, 0)


def test_settling_and_releasing_one_hold_at_once_does_one_of_the_two(org: Caller) -> None:
    grant(org, 1_000)
    sources = [f"run:{n}" for n in range(12)]
    at_once(org, [holding(org, source) for source in sources])
    settled, released = 0, 0
    for source in sources:
        results = at_once(
            org,
            [
                lambda tx, source=source: service.settle(tx, org, source_id=source, amount_microusd=4),  # type: ignore[misc]
                lambda tx, source=source: service.release(tx, org, source_id=source),  # type: ignore[misc]
            ]
            * (WORKERS // 2),
        )
        refusals = Counter(type(result) for result in results if isinstance(result, RunyardError))
        assert refusals in (Counter({HoldSettled: WORKERS // 2}), Counter({HoldReleased: WORKERS // 2}))
        settled += HoldSettled in refusals
        released += HoldReleased in refusals
    assert settled + released == 12
    assert available_and_held(org) == (1_000 - 4 * settled, 0)


def test_the_reaper_and_late_settlements_never_deadlock(org: Caller) -> None:
    grant(org, 1_000)
    overdue = clock.now() - timedelta(minutes=1)
    for n in range(24):
        with db.tenant(org) as tx:
            service.hold(tx, org, amount_microusd=10, source_id=f"run:{n}", expires_at=overdue)
    operations: list[Callable[[Tx], object]] = [
        lambda tx, n=n: service.settle(tx, org, source_id=f"run:{n}", amount_microusd=10)  # type: ignore[misc]
        for n in range(24)
    ]
    operations[8:8] = [lambda tx: service.release_expired(tx, org)] * 4
    results = at_once(org, operations)
    late = sum(isinstance(result, HoldReleased) for result in results)
    assert late == sum(result for result in results if isinstance(result, int))
    assert available_and_held(org) == (1_000 - 10 * (24 - late), 0)
