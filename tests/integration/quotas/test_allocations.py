"""Quotas on a real Postgres: never exceeded, counted once, released once, whoever comes at the same time."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from threading import Barrier

import psycopg
import pytest
from psycopg import sql
from psycopg.rows import dict_row

from shared.kernel import db, ids, settings
from shared.kernel.caller import Caller
from shared.kernel.db import Tx
from shared.kernel.errors import NotFound, QuotaExceeded
from shared.quotas import service as quotas
from shared.quotas.plans import PLANS, Resource

_RUNS = Resource.CONCURRENT_RUNS


def allow(org: Caller, resource: Resource, limit: int) -> None:
    with db.tenant(org) as tx:
        quotas.set_limits(tx, org, org.org_id, quotas={resource: limit})


def used(org: Caller, resource: Resource = _RUNS) -> int:
    with db.tenant(org) as tx:
        return next(each.used for each in quotas.status(tx, org.org_id) if each.resource is resource)


def allocate(org: Caller, holder: str, *, resource: Resource = _RUNS, amount: int = 1) -> None:
    with db.tenant(org) as tx:
        quotas.allocate(tx, org.org_id, resource, holder=holder, amount=amount)


def release(org: Caller, holder: str, *, resource: Resource = _RUNS) -> bool:
    with db.tenant(org) as tx:
        return quotas.release(tx, org.org_id, resource, holder=holder)


def test_a_plans_quota_can_be_used_up_and_not_exceeded(org: Caller) -> None:
    limit = PLANS["free"].quotas[_RUNS]
    assert limit is not None
    for number in range(limit):
        allocate(org, f"run_{number}")
    with pytest.raises(QuotaExceeded, match=f"may have {limit} runs at once and has {limit}"):
        allocate(org, "run_more")
    assert used(org) == limit
    assert release(org, "run_0")
    allocate(org, "run_more")


def test_the_same_holder_counts_once(org: Caller) -> None:
    allow(org, _RUNS, 1)
    for _ in range(3):
        allocate(org, "run_1")
    assert used(org) == 1
    allow(org, _RUNS, 2)
    allocate(org, "run_1")
    assert used(org) == 1


def test_what_is_held_is_released_once(org: Caller) -> None:
    allocate(org, "run_1")
    allocate(org, "run_2")
    assert [release(org, "run_1") for _ in range(3)] == [True, False, False]
    assert not release(org, "run_never")
    assert used(org) == 1


def test_amounts_count_and_are_released_whole(org: Caller) -> None:
    allow(org, Resource.STORAGE_BYTES, 100)
    allocate(org, "mem_1", resource=Resource.STORAGE_BYTES, amount=60)
    with pytest.raises(QuotaExceeded, match="has 60, and this needs 41 more"):
        allocate(org, "mem_2", resource=Resource.STORAGE_BYTES, amount=41)
    allocate(org, "mem_2", resource=Resource.STORAGE_BYTES, amount=40)
    assert used(org, Resource.STORAGE_BYTES) == 100
    release(org, "mem_1", resource=Resource.STORAGE_BYTES)
    assert used(org, Resource.STORAGE_BYTES) == 40


def test_a_refusal_leaves_nothing_even_in_a_transaction_that_goes_on(org: Caller) -> None:
    allow(org, _RUNS, 0)
    with db.tenant(org) as tx:
        with suppress(QuotaExceeded):
            quotas.allocate(tx, org.org_id, _RUNS, holder="run_1")
        assert not quotas.release(tx, org.org_id, _RUNS, holder="run_1")
    assert used(org) == 0


def test_what_is_rolled_back_is_not_counted(org: Caller) -> None:
    with suppress(ZeroDivisionError), db.tenant(org) as tx:
        quotas.allocate(tx, org.org_id, _RUNS, holder="run_1")
        raise ZeroDivisionError
    assert used(org) == 0


def test_a_lowered_limit_takes_nothing_away_and_lets_nothing_in(org: Caller) -> None:
    for number in range(4):
        allocate(org, f"run_{number}")
    allow(org, _RUNS, 2)
    with pytest.raises(QuotaExceeded, match="may have 2 runs at once and has 4"):
        allocate(org, "run_more")
    for number in range(3):
        release(org, f"run_{number}")
    allocate(org, "run_more")


def test_a_check_tells_whether_there_is_room_and_counts_nothing(org: Caller) -> None:
    allow(org, Resource.STORAGE_BYTES, 10)
    with db.tenant(org) as tx:
        quotas.check(tx, org.org_id, Resource.STORAGE_BYTES, amount=10)
        with pytest.raises(QuotaExceeded):
            quotas.check(tx, org.org_id, Resource.STORAGE_BYTES, amount=11)
    assert used(org, Resource.STORAGE_BYTES) == 0


def test_one_org_uses_up_nothing_of_anothers(org: Caller, rival: Caller) -> None:
    allow(org, _RUNS, 1)
    allocate(org, "run_1")
    allocate(rival, "run_1")
    assert (used(org), used(rival)) == (1, 1)
    assert release(rival, "run_1")
    assert used(org) == 1


def test_there_is_no_quota_of_an_org_that_there_is_not(database: str) -> None:
    nobody = Caller.system(ids.new())
    with pytest.raises(NotFound):
        allocate(nobody, "run_1")


def together(org: Caller, many: int, work: Callable[[Tx, int], object]) -> list[object]:
    """Return what `work(tx, number)` returned or refused on up to 200 connections of their own at once."""
    at_once = min(many, 200)
    barrier = Barrier(at_once)
    begin = sql.SQL("BEGIN; SELECT set_config('app.current_org_id', {}, true)").format(str(org.org_id))

    def one(first: int) -> list[object]:
        found: list[object] = []
        with psycopg.connect(settings.database().url, autocommit=True, row_factory=dict_row) as connection:
            barrier.wait()
            for number in range(first, many, at_once):
                connection.execute(begin)
                try:
                    found.append(work(connection, number))
                    connection.execute("COMMIT")
                except QuotaExceeded as refusal:
                    connection.execute("ROLLBACK")
                    found.append(refusal)
        return found

    with ThreadPoolExecutor(at_once) as pool:
        return [each for several in pool.map(one, range(at_once)) for each in several]


def test_200_at_once_get_exactly_the_50_there_are(org: Caller) -> None:
    allow(org, _RUNS, 50)
    outcomes = together(org, 200, lambda tx, n: quotas.allocate(tx, org.org_id, _RUNS, holder=f"run_{n}"))
    assert sum(outcome is None for outcome in outcomes) == 50
    assert sum(isinstance(outcome, QuotaExceeded) for outcome in outcomes) == 150
    assert used(org) == 50


def test_200_at_once_for_one_holder_count_once(org: Caller) -> None:
    allow(org, _RUNS, 3)
    outcomes = together(org, 200, lambda tx, _: quotas.allocate(tx, org.org_id, _RUNS, holder="run_1"))
    assert outcomes == [None] * 200
    assert used(org) == 1


def test_50_releases_at_once_of_one_holder_release_once(org: Caller) -> None:
    allocate(org, "run_1")
    allocate(org, "run_2")
    outcomes = together(org, 50, lambda tx, _: quotas.release(tx, org.org_id, _RUNS, holder="run_1"))
    assert sorted(map(bool, outcomes)) == [False] * 49 + [True]
    assert used(org) == 1


def test_allocating_and_releasing_at_once_neither_deadlocks_nor_miscounts(org: Caller) -> None:
    allow(org, Resource.MEMORIES, 10)
    allow(org, Resource.STORAGE_BYTES, 1_000)

    def save_and_delete(tx: Tx, number: int) -> None:
        holder = f"mem_{number % 20}"
        for resource, amount in ((Resource.MEMORIES, 1), (Resource.STORAGE_BYTES, 7)):
            if number % 3:
                quotas.allocate(tx, org.org_id, resource, holder=holder, amount=amount)
            else:
                quotas.release(tx, org.org_id, resource, holder=holder)

    together(org, 400, save_and_delete)
    memories, stored = used(org, Resource.MEMORIES), used(org, Resource.STORAGE_BYTES)
    assert 0 <= memories <= 10
    assert stored == 7 * memories
