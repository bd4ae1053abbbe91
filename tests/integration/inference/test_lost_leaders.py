"""Who follows is answered, whatever becomes of the leader: it fails, dies, goes away or is late; or Redis does."""

import asyncio
import threading
import time
from collections.abc import Iterator

import pytest
from redis import Redis

from shared.inference import caching, flights, preflight
from shared.inference.preflight import Asked
from shared.kernel import cache, ids
from shared.kernel.caller import Caller
from tests.integration.inference.equal_calls import (
    Work,
    answered,
    entry_of,
    key_of,
    locks,
    together,
    worker,
)
from tests.services import Services
from tests.waiting import takes_less_than, until


@pytest.fixture
def caller(redis: Redis) -> Caller:
    return Caller.system(ids.new())


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """Each test starts and ends as a process that has had no trouble with Redis."""
    cache._breaker.succeeded()
    yield
    cache._breaker.succeeded()


def test_when_a_leader_is_killed_one_of_those_who_follow_leads(caller: Caller, redis: Redis) -> None:
    doomed = worker(caller, calls=1, slow_s=60, lead_s=3)
    until(lambda: redis.get("paid"), "the first call")
    work = Work()
    # Not before the dead one's lock has ended, and soon after.
    doomed.kill()
    doomed.communicate()
    ends_at = time.monotonic() + redis.pttl(locks(redis)[0]) / 1000
    assert together(caller, work) == ["answer 1"] * 10
    assert work.paid == 1
    assert -0.1 < time.monotonic() - ends_at < 1


def test_when_a_leader_fails_one_of_those_who_follow_leads(caller: Caller, redis: Redis) -> None:
    work = Work(fails=2)

    async def all_of_them() -> list[str | BaseException]:
        return await asyncio.gather(*(answered(caller, "Hello", work) for _ in range(10)), return_exceptions=True)

    answers = asyncio.run(all_of_them())
    assert sum(isinstance(answer, ConnectionError) for answer in answers) == 2
    assert answers.count("answer 3") == 8
    assert (work.paid, locks(redis), flights._flights) == (3, [], {})


def test_when_a_leaders_client_goes_away_another_leads(caller: Caller, redis: Redis) -> None:
    endless, work = Work(slow_s=60), Work()

    async def leader_leaves() -> list[str]:
        leader = asyncio.create_task(answered(caller, "Hello", endless))
        await endless.asked.wait()
        following = [asyncio.create_task(answered(caller, "Hello", work)) for _ in range(5)]
        await asyncio.sleep(0.05)
        leader.cancel()
        return await asyncio.gather(*following)

    assert asyncio.run(leader_leaves()) == ["answer 1"] * 5
    assert (endless.paid, work.paid, locks(redis)) == (1, 1, [])


def test_a_follower_that_goes_away_takes_nobody_with_it(caller: Caller) -> None:
    work = Work(slow_s=0.2)

    async def one_leaves() -> list[str]:
        leader, leaver, stayer = (asyncio.create_task(answered(caller, "Hello", work)) for _ in range(3))
        await asyncio.sleep(0.1)
        leaver.cancel()
        return [await leader, await stayer]

    assert asyncio.run(one_leaves()) == ["answer 1"] * 2
    assert work.paid == 1


def test_who_goes_away_during_the_preflight_is_not_left_leading(
    caller: Caller, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = key_of(caller.org_id, "Hello")
    looking, may_answer = threading.Event(), threading.Event()
    sent = preflight.pipelining.send  # type: ignore[attr-defined]

    def slow(commands: object) -> object:
        replies = sent(commands)
        looking.set()
        assert may_answer.wait(30)
        return replies

    monkeypatch.setattr("shared.kernel.pipelining.send", slow)

    async def leave() -> None:
        look = asyncio.create_task(
            preflight.look(Asked(caller=caller, limited=False, cache_key=key, read=True, lead=True))
        )
        await asyncio.to_thread(looking.wait, 10)
        look.cancel()
        with pytest.raises(asyncio.CancelledError):
            await look
        monkeypatch.undo()
        may_answer.set()

    asyncio.run(leave())
    until(lambda: not locks(redis), "the end of the lead")
    assert flights._flights == {}


def test_a_leader_that_is_overdue_can_not_end_its_successors_flight(caller: Caller, redis: Redis) -> None:
    key = key_of(caller.org_id, "Hello")

    async def overtaken() -> None:
        assert await caching.try_lead(key, lead_s=0.05)
        await asyncio.sleep(0.1)
        # Another worker leads now.
        redis.set(flights.lock_key(key), "another's")
        await caching.give_up(key)
        assert not await caching.try_lead(key)
        assert redis.get(flights.lock_key(key)) == b"another's"
        await caching.put(key, entry_of("late"), 300)
        assert redis.get(flights.lock_key(key)) == b"another's"

    asyncio.run(overtaken())


def test_an_overdue_leader_of_this_worker_is_waited_for_no_longer(caller: Caller) -> None:
    key = key_of(caller.org_id, "Hello")

    async def wait() -> float:
        began = time.monotonic()
        assert await caching.try_lead(key, lead_s=0.2)
        assert await caching.follow(key, until=began + 20) is None
        waited = time.monotonic() - began
        # The lock in Redis has ended too, or does within a moment.
        await asyncio.sleep(0.05)
        assert await caching.try_lead(key)
        await caching.give_up(key)
        return waited

    def waited_s() -> float:
        took_s = asyncio.run(wait())
        assert took_s > 0.15
        return took_s

    assert takes_less_than(1, waited_s)


@pytest.mark.parametrize("whose", ["here", "elsewhere"])
def test_nobody_waits_longer_than_they_want(caller: Caller, redis: Redis, whose: str) -> None:
    key = key_of(caller.org_id, "Hello")

    async def wait() -> float:
        if whose == "here":
            assert await caching.try_lead(key)
        else:
            redis.set(flights.lock_key(key), "another's", px=60_000)
        began = time.monotonic()
        assert await caching.follow(key, until=began + 0.3) is None
        waited = time.monotonic() - began
        await caching.give_up(key)
        return waited

    def waited_s() -> float:
        took_s = asyncio.run(wait())
        assert took_s > 0.25
        return took_s

    assert takes_less_than(0.8, waited_s)


def test_leads_that_nobody_ended_do_not_pile_up(caller: Caller) -> None:
    before = len(flights._flights)

    async def lead() -> None:
        for number in range(50):
            assert await caching.try_lead(key_of(caller.org_id, str(number)), lead_s=0.001)
            await asyncio.sleep(0.002)

    asyncio.run(lead())
    assert len(flights._flights) <= before + 2
    flights._flights.clear()


def test_without_redis_each_worker_has_its_own_leader(caller: Caller, services: Services) -> None:
    services.redis.kill()
    work = Work()
    began = time.monotonic()
    assert together(caller, work) == ["answer 1"] * 10
    assert (work.paid, flights._flights) == (1, {})
    assert time.monotonic() - began < 2

    async def one_by_one() -> list[bool]:
        key = key_of(caller.org_id, "Other")
        leads = [await caching.try_lead(key), await caching.try_lead(key)]
        await caching.give_up(key)
        return [*leads, await caching.try_lead(key)]

    assert asyncio.run(one_by_one()) == [True, False, True]
    flights._flights.clear()


def test_redis_that_goes_away_meanwhile_loses_no_answer(caller: Caller, services: Services) -> None:
    work = Work(slow_s=0.5)

    async def killed() -> list[str]:
        calls = [asyncio.create_task(answered(caller, "Hello", work)) for _ in range(10)]
        await asyncio.sleep(0.2)
        await asyncio.to_thread(services.redis.kill)
        return await asyncio.gather(*calls)

    assert asyncio.run(killed()) == ["answer 1"] * 10
    assert (work.paid, flights._flights) == (1, {})
