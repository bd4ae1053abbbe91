"""What calls learn before they start: rate limits, entries, leads and breakers, in one round trip for all at once."""

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from redis import Redis

from shared.inference import caching, flights, preflight
from shared.inference.preflight import Asked, Looked
from shared.kernel import cache, clock, ids, limiting, pipelining
from shared.kernel.caller import Caller
from shared.kernel.errors import RateLimited, RateLimiterUnavailable
from shared.kernel.rates import RateKind
from tests.integration.inference.equal_calls import entry_of, key_of
from tests.services import Services
from tests.waiting import until


@pytest.fixture
def caller(redis: Redis) -> Caller:
    return replace(Caller.system(ids.new()), rates="actor.model=60/10 org.model=600/40")


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """Each test starts and ends as a process that has had no trouble with Redis, and leads nothing."""
    cache._breaker.succeeded()
    yield
    cache._breaker.succeeded()
    flights._flights.clear()


@pytest.fixture
def round_trips(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many commands went in each round trip."""
    counted: list[int] = []
    execute = pipelining._execute

    def counting(client: Redis, commands: Any) -> list[Any]:
        counted.append(len(commands))
        return execute(client, commands)

    monkeypatch.setattr(pipelining, "_execute", counting)
    return counted


def looks(*several: Asked) -> list[Looked]:
    async def all_of_them() -> list[Looked]:
        return await asyncio.gather(*map(preflight.look, several))

    return asyncio.run(all_of_them())


def look(caller: Caller, *, limited: bool = True, **options: Any) -> Looked:
    [looked] = looks(Asked(caller=caller, limited=limited, **options))
    return looked


def keep(caller: Caller, text: str = "kept") -> str:
    key = key_of(caller.org_id, "Hello")
    asyncio.run(caching.put(key, entry_of(text), 300))
    return key


def test_all_is_there_after_one_look(caller: Caller, redis: Redis) -> None:
    key = keep(caller)
    redis.set("health:a", b"open")
    looked = look(caller, cache_key=key, read=True, lead=True, watch=["health:a", "health:b"])
    assert [(b.name, b.remaining, b.refused) for b in looked.counted.buckets] == [
        ("actor.model", 9, False),
        ("org.model", 39, False),
    ]
    assert looked.entry == redis.get(key)
    assert (looked.leads, looked.reached) == (False, True)
    assert looked.states == {"health:a": b"open", "health:b": None}


def test_calls_at_once_share_round_trips(caller: Caller, redis: Redis, round_trips: list[int]) -> None:
    others = [replace(Caller.system(ids.new()), rates=caller.rates) for _ in range(3)]
    everyone = [caller, *others] * 16
    look(caller)
    round_trips.clear()
    several = [
        Asked(caller=one, limited=True, cache_key=key_of(one.org_id, "Hello"), read=True, lead=True, watch=["a", "b"])
        for one in everyone
    ]
    looked = looks(*several)
    assert all(one.reached and len(one.counted.buckets) == 2 and set(one.states) == {"a", "b"} for one in looked)
    assert sum(one.leads for one in looked) == 4
    # The first goes alone, and all who came meanwhile go together.
    assert len(round_trips) <= 3
    # Of each org one script, and of each breaker one look.
    assert max(round_trips) <= 4 + 2


def test_the_script_is_sent_once_and_again_to_a_redis_that_was_restarted(
    caller: Caller, redis: Redis, round_trips: list[int]
) -> None:
    redis.script_flush()
    assert look(caller).reached
    assert look(caller).reached
    assert round_trips == [1, 1, 1]
    redis.script_flush()
    assert look(caller, watch=["a"]).counted.buckets[0].remaining == 7
    assert round_trips == [1, 1, 1, 2, 1]


def test_each_gets_their_own(caller: Caller, redis: Redis) -> None:
    """Of a mixed batch nobody gets another's entry, buckets, lead or breakers."""
    rival = replace(Caller.system(ids.new()), rates="org.model=60/5")
    free = Caller.system(ids.new())
    mine, theirs = keep(caller, "mine"), keep(rival, "theirs")
    redis.set("mine", b"1")
    redis.set("theirs", b"2")
    for _ in range(10):
        first, second, third, fourth, fifth = looks(
            Asked(caller=caller, limited=False, cache_key=mine, read=True, lead=True, watch=["mine"]),
            Asked(caller=rival, limited=False, cache_key=theirs, read=True, watch=["theirs", "none"]),
            Asked(caller=free, limited=True, cache_key=key_of(free.org_id, "Hello"), read=True),
            Asked(caller=caller, limited=False, cache_key=mine, read=False),
            Asked(caller=rival, limited=False, watch=["mine"]),
        )
        assert first.entry == redis.get(mine)
        assert second.entry == redis.get(theirs)
        assert first.entry != second.entry
        assert (third.entry, third.leads, third.counted.buckets, fourth.entry, fifth.entry) == (
            None,
            False,
            (),
            None,
            None,
        )
        assert [one.states for one in (first, second, third, fourth, fifth)] == [
            {"mine": b"1"},
            {"theirs": b"2", "none": None},
            {},
            {},
            {"mine": b"1"},
        ]


def test_buckets_of_a_mixed_batch_are_their_callers(caller: Caller) -> None:
    strict = replace(Caller.system(ids.new()), rates="actor.model=1/2")
    batch = [Asked(caller=one, limited=True) for one in (caller, strict, strict, caller, strict)]
    refused = [limited.counted.refused for limited in looks(*batch)]
    assert refused == [False, False, False, False, True]
    states = [one.counted.buckets for one in looks(*batch)]
    assert [[bucket.name for bucket in buckets] for buckets in states] == [
        ["actor.model", "org.model"],
        ["actor.model"],
        ["actor.model"],
        ["actor.model", "org.model"],
        ["actor.model"],
    ]


def test_limits_are_exact_over_threads_and_shared_with_other_requests(caller: Caller) -> None:
    admitted: Counter[bool] = Counter()
    strict = replace(caller, rates="actor.model=1/100 org.model=1/1000")

    def client() -> None:
        for _ in range(5):
            batch = looks(*[Asked(caller=strict, limited=True)] * 8)
            admitted.update(not one.counted.refused for one in batch)

    threads = [threading.Thread(target=client) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (admitted[True], admitted.total()) == (100, 160)
    with pytest.raises(RateLimited):
        limiting.count(strict, RateKind.MODEL).admit(spends=True)


def test_who_is_refused_reads_nothing_and_leads_nothing(caller: Caller, redis: Redis) -> None:
    strict = replace(caller, rates="actor.model=1/1")
    key = keep(strict)
    other = key_of(caller.org_id, "Other")
    assert look(strict, cache_key=key, read=True).entry is not None
    for asked in (key, other):
        looked = look(strict, cache_key=asked, read=True, lead=True, fresh_s=0, watch=["a"])
        assert looked.counted.refused
        assert (looked.entry, looked.leads, looked.states) == (None, False, {"a": None})
        with pytest.raises(RateLimited):
            looked.counted.admit(spends=True)
    assert list(redis.scan_iter("*:lead")) == []


def test_who_is_not_limited_takes_no_token(caller: Caller) -> None:
    assert look(caller, limited=False).counted.buckets == ()
    assert look(caller).counted.buckets[0].remaining == 9


def test_one_of_equal_calls_leads_unless_the_entry_is_fresh(caller: Caller, redis: Redis) -> None:
    key = key_of(caller.org_id, "Hello")
    batch = [Asked(caller=caller, limited=False, cache_key=key, read=True, lead=True, lead_s=40)] * 5
    assert [one.leads for one in looks(*batch)].count(True) == 1
    assert 30_000 < redis.pttl(flights.lock_key(key)) <= 40_000
    assert not any(one.leads for one in looks(*batch))
    asyncio.run(caching.put(key, entry_of("Hi"), 300))
    assert not any(one.leads for one in looks(*batch))
    time.sleep(0.2)
    older = [replace(asked, fresh_s=0.1) for asked in batch]
    looked = looks(*older)
    # The old one comes along: it may serve if no provider answers.
    assert [one.leads for one in looked].count(True) == 1
    assert all(one.entry for one in looked)
    assert not look(caller, limited=False, cache_key=key, read=True, lead=False, fresh_s=0).leads


def test_an_entry_outlives_its_time_by_an_hour(caller: Caller, redis: Redis) -> None:
    key = keep(caller)
    assert 300 + 3_600 - 5 < redis.ttl(key) <= 300 + 3_600


def test_an_entry_that_was_tampered_with_is_asked_for_anew(caller: Caller, redis: Redis) -> None:
    key = key_of(caller.org_id, "Hello")
    redis.set(key, b"\x00rubbish")
    assert look(caller, cache_key=key, read=True, lead=True, fresh_s=300).leads


def test_who_leads_never_has_a_fresh_entry_however_the_clocks_differ(
    caller: Caller, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = keep(caller)
    now = clock.now()
    monkeypatch.setattr(clock, "now", lambda: now - timedelta(seconds=5))
    time.sleep(1.1)
    looked = look(caller, limited=False, cache_key=key, read=True, lead=True, fresh_s=1)
    assert (looked.entry is not None, looked.leads) == (True, False)
    until(lambda: not redis.exists(flights.lock_key(key)), "the end of the lead")


def test_a_key_of_the_wrong_type_harms_nobody_else(caller: Caller, redis: Redis) -> None:
    rival = Caller.system(ids.new())
    key = keep(rival)
    redis.lpush("health:a", "x")
    redis.lpush(f"rate:{{{caller.org_id}}}:org.model", "x")
    harmed, fine = looks(
        Asked(caller=caller, limited=True, watch=["health:a"]),
        Asked(caller=rival, limited=False, cache_key=key, read=True),
    )
    assert fine.entry is not None
    assert (harmed.counted.reached, harmed.states) == (False, {"health:a": None})
    assert look(rival, cache_key=key, read=True).entry is not None


def test_without_redis_nothing_is_known_and_nothing_waits(caller: Caller, services: Services) -> None:
    key = keep(caller)
    services.redis.kill()
    free = Caller.system(caller.org_id)
    began = time.monotonic()
    for number in range(100):
        limited, unlimited = looks(
            Asked(caller=caller, limited=True, cache_key=key, read=True, lead=True, watch=["a"]),
            Asked(caller=free, limited=True, cache_key=key, read=True, lead=True, watch=["a"]),
        )
        assert (limited.reached, limited.entry, limited.leads, limited.states) == (False, None, False, {})
        with pytest.raises(RateLimiterUnavailable):
            limited.counted.admit(spends=True)
        unlimited.counted.admit(spends=True)
        # Within this worker one leads all the same.
        assert (unlimited.reached, unlimited.leads) == (False, number == 0)
    assert time.monotonic() - began < 2


def test_a_redis_that_hangs_holds_calls_up_once(caller: Caller, services: Services) -> None:
    assert look(caller).reached
    hanging = services.redis.process()
    hanging.suspend()
    try:
        began = time.monotonic()
        batches = [looks(*[Asked(caller=caller, limited=True)] * 64) for _ in range(40)]
        # Forty waits would take ten seconds.
        assert time.monotonic() - began < 5
    finally:
        hanging.resume()
    assert not any(looked.reached for batch in batches for looked in batch)


def test_it_works_again_once_redis_is_back(caller: Caller, services: Services) -> None:
    services.redis.kill()
    assert not look(caller).reached
    services.redis.start()
    cache._breaker.succeeded()
    assert look(caller).reached


def test_nothing_asked_needs_no_redis(services: Services, database: str) -> None:
    services.redis.kill()
    looked = look(Caller.system(ids.new()))
    assert (looked.reached, looked.counted.reached, looked.leads) == (True, True, False)
