"""Ten equal requests at once cost one: in a worker, over workers, whatever becomes of the leader, and without Redis."""

import asyncio
import threading
import time
from collections.abc import Iterator

import pytest
from redis import Redis

from shared.inference import caching, flights
from shared.inference.asking import CacheControl
from shared.kernel import cache, ids
from shared.kernel.caller import Caller
from tests.integration.inference.equal_calls import (
    Work,
    answered,
    entry_of,
    key_of,
    locks,
    together,
    told,
    worker,
)


@pytest.fixture
def caller(redis: Redis) -> Caller:
    return Caller.system(ids.new())


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """Each test starts and ends as a process that has had no trouble with Redis."""
    cache._breaker.succeeded()
    yield
    cache._breaker.succeeded()


def test_ten_equal_calls_at_once_cost_one(caller: Caller, redis: Redis) -> None:
    work = Work()
    assert together(caller, work) == ["answer 1"] * 10
    assert (work.paid, locks(redis), flights._flights) == (1, [], {})
    # And later ones nothing.
    assert together(caller, work) == ["answer 1"] * 10
    assert (work.paid, locks(redis), flights._flights) == (1, [], {})


def test_followers_of_the_same_worker_get_the_answer_without_a_look_into_redis(caller: Caller, redis: Redis) -> None:
    async def lead_and_follow() -> None:
        key = key_of(caller.org_id, "Hello")
        assert await caching.try_lead(key)

        following = [asyncio.create_task(caching.follow(key, until=time.monotonic() + 20)) for _ in range(10)]
        await asyncio.sleep(0.3)
        redis.client_pause(2_000)
        putting = asyncio.create_task(caching.put(key, entry_of("Hi"), 300))
        assert all(await asyncio.gather(*following))
        assert not putting.done(), "Redis still waits"
        redis.client_unpause()
        await putting

    asyncio.run(lead_and_follow())


def test_different_requests_do_not_wait_for_each_other(caller: Caller) -> None:
    at_work = asyncio.Barrier(10)

    async def work() -> str:
        # All of them are asked before any of them has answered.
        return f"answer {await at_work.wait()}"

    async def all_of_them() -> list[str]:
        async with asyncio.timeout(30):
            return await asyncio.gather(*(answered(caller, f"Hello {number}", work) for number in range(10)))

    assert len(set(asyncio.run(all_of_them()))) == 10


def test_a_rival_with_the_same_prompt_never_hits(caller: Caller) -> None:
    rival, ours, theirs = Caller.system(ids.new()), Work(), Work()

    async def both() -> list[str]:
        mine = (answered(caller, "Hello", ours) for _ in range(5))
        others = (answered(rival, "Hello", theirs) for _ in range(5))
        return await asyncio.gather(*mine, *others)

    asyncio.run(both())
    assert (ours.paid, theirs.paid) == (1, 1)
    third = Work()
    together(Caller.system(ids.new()), third)
    assert third.paid == 1


def test_calls_of_several_event_loops_cost_one(caller: Caller) -> None:
    work, results = Work(slow_s=0.3), list[str]()
    threads = [threading.Thread(target=lambda: results.extend(together(caller, work, 5))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (work.paid, results) == (1, ["answer 1"] * 20)


def test_ten_equal_calls_in_two_processes_cost_one(caller: Caller, redis: Redis) -> None:
    processes = [worker(caller, calls=5, slow_s=2.0) for _ in range(2)]
    answers = [answer for process in processes for answer in told(process)]
    assert (redis.get("paid"), answers) == (b"1", ["answer 1"] * 10)
    assert locks(redis) == []


def test_an_answer_that_is_not_kept_ends_in_another_call(caller: Caller, redis: Redis) -> None:
    """A cut answer is nobody else's."""
    key, work = key_of(caller.org_id, "Hello"), Work()

    async def cut() -> list[str]:
        assert await caching.try_lead(key)
        following = [asyncio.create_task(answered(caller, "Hello", work)) for _ in range(3)]
        await asyncio.sleep(0.05)
        entry = entry_of("cut")
        await caching.put(
            key,
            caching.Entry(
                answer={"choices": [{**entry.answer["choices"][0], "finish_reason": "length"}]},
                model="m",
                provider="p",
                tokens=entry.tokens,
                stored_at=entry.stored_at,
            ),
            300,
        )
        await caching.give_up(key)
        return await asyncio.gather(*following)

    assert asyncio.run(cut()) == ["answer 1"] * 3


def test_who_wants_a_younger_answer_leads_although_there_is_one(caller: Caller, redis: Redis) -> None:
    work = Work()
    assert together(caller, work, 1) == ["answer 1"]
    time.sleep(1.1)
    younger = CacheControl(max_age_s=1)
    assert asyncio.run(answered(caller, "Hello", work, control=younger)) == "answer 2"
    assert together(caller, work, 1) == ["answer 2"]
    assert locks(redis) == []
