"""Rate limits, counted in a real Redis: exact under concurrency, refilled with time, and what happens without Redis."""

import math
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Barrier

import pytest
from redis import Redis

from functions.api import agents, identity, inference, runs, sandboxes
from shared.kernel import cache, limiting, rates
from shared.kernel.caller import Caller
from shared.kernel.errors import RateLimited, RateLimiterUnavailable
from shared.kernel.rates import Rate, RateKind, Share
from shared.quotas import service as quotas
from tests.api_gateway import Answer
from tests.services import Services
from tests.waiting import until

_CLIENTS = 64
_AGENT = "agent_01h455vb4pex5vsknk084sn02q"


@pytest.fixture(autouse=True)
def forgotten_breaker() -> Iterator[None]:
    """Each test starts and ends as a process that has had no trouble with Redis."""
    cache._breaker.succeeded()
    yield
    cache._breaker.succeeded()


def limited(caller: Caller, **limits: Rate) -> Caller:
    """Return the caller with these limits of reading: `actor=`, `org=`; `key=` is of every kind."""
    named = {(Share(share), None if share == Share.KEY else RateKind.READ): rate for share, rate in limits.items()}
    return replace(caller, rates=rates.show(named))


def admitted(callers: list[Caller], requests: int) -> Counter[str]:
    """Send this many requests at once from 64 clients, in turn as these callers; count those admitted by actor."""
    together = Barrier(_CLIENTS)

    def client(number: int) -> list[str]:
        together.wait()
        caller = callers[number % len(callers)]
        share = range(number, requests, _CLIENTS)
        return [caller.actor_id for _ in share if not refused(caller)]

    with ThreadPoolExecutor(_CLIENTS) as pool:
        return Counter(actor for actors in pool.map(client, range(_CLIENTS)) for actor in actors)


def refused(caller: Caller) -> bool:
    counted = limiting.count(caller, RateKind.READ)
    assert counted.reached
    return any(bucket.refused for bucket in counted.buckets)


def test_64_clients_at_once_get_one_burst_and_not_one_more(org: Caller, redis: Redis) -> None:
    began = time.monotonic()
    taken = admitted([limited(org, actor=Rate(60, 100))], 640).total()
    refilled = math.ceil(time.monotonic() - began)
    assert 100 - 1 <= taken <= 100 + refilled + 1


def test_a_bucket_refills_at_its_rate(org: Caller, redis: Redis) -> None:
    caller = limited(org, actor=Rate(600, 20))
    while not refused(caller):
        pass
    emptied = time.monotonic()
    left_empty_for = 0.0
    while (left_empty_for := time.monotonic() - emptied) < 1.0:
        time.sleep(0.01)
    taken = admitted([caller], _CLIENTS).total()
    assert 10 * left_empty_for - 1 <= taken <= 10 * (time.monotonic() - emptied) + 1


def test_callers_of_an_org_share_its_bucket(org: Caller, redis: Redis) -> None:
    callers = [limited(replace(org, actor_id=f"key_{n}"), actor=Rate(1, 50), org=Rate(1, 80)) for n in range(4)]
    taken = admitted(callers, 640)
    assert 80 - 1 <= taken.total() <= 80 + 1
    assert max(taken.values()) <= 50 + 1


def test_what_one_bucket_refuses_is_taken_from_no_other(org: Caller, redis: Redis) -> None:
    greedy = limited(org, actor=Rate(1, 5), org=Rate(1, 50))
    assert admitted([greedy], 640).total() == 5
    others = limited(replace(org, actor_id="key_other"), actor=Rate(1, 100), org=Rate(1, 50))
    assert 45 - 1 <= admitted([others], 640).total() <= 45 + 1


def test_a_full_org_costs_its_callers_nothing(org: Caller, redis: Redis) -> None:
    caller = limited(org, actor=Rate(1, 20), org=Rate(1, 10))
    assert admitted([caller], 640).total() == 10
    assert admitted([limited(org, actor=Rate(1, 20))], 640).total() == 10


def test_a_keys_own_limit_counts_requests_of_every_kind(org: Caller, redis: Redis) -> None:
    caller = replace(org, rates=quotas.rates_of("free", {}, 12))
    kinds = [RateKind.READ, RateKind.CREATE, RateKind.MODEL]
    states = [limiting.count(caller, kind).buckets[0] for kind in kinds]
    assert [(state.name, state.refused) for state in states] == [("key", False), ("key", False), ("key", True)]


def test_kinds_and_orgs_are_counted_apart(org: Caller, rival: Caller, redis: Redis) -> None:
    text = "actor.read=1/1 actor.create=1/1 org.read=1/1 org.create=1/1"
    first, second = replace(org, rates=text), replace(rival, rates=text, actor_id=org.actor_id)
    for caller in (first, second):
        for kind in (RateKind.READ, RateKind.CREATE):
            limiting.count(caller, kind).admit(spends=False)
            with pytest.raises(RateLimited):
                limiting.count(caller, kind).admit(spends=False)


def test_the_wait_that_is_asked_for_is_enough_and_not_much_more(org: Caller, redis: Redis) -> None:
    caller = limited(org, actor=Rate(120, 2))
    [bucket] = until(
        lambda: [bucket for bucket in limiting.count(caller, RateKind.READ).buckets if bucket.refused], "a refusal"
    )
    again = time.monotonic() + bucket.retry_in_s
    assert 0 < bucket.retry_in_s <= 0.5
    while time.monotonic() < again:
        time.sleep(0.005)
    assert not refused(caller)


def test_every_answer_tells_the_limits_and_what_is_left(call: Callable[..., Answer], org: Caller) -> None:
    caller = limited(org, actor=Rate(60, 3), org=Rate(120, 10))
    first = call(agents.handler, "GET", "/v1/agents", caller)
    assert first.status == 200
    assert first.headers["ratelimit-policy"] == '"actor.read";q=3;w=3, "org.read";q=10;w=5'
    assert re.fullmatch(r'"actor\.read";r=2;t=[01], "org\.read";r=9;t=[01]', first.headers["ratelimit"])
    # So does an error's.
    missing = call(agents.handler, "GET", f"/v1/agents/{_AGENT}", caller)
    assert (missing.status, missing.headers["ratelimit"][:16]) == (404, '"actor.read";r=1')


def test_a_refusal_says_how_long_to_wait(call: Callable[..., Answer], org: Caller) -> None:
    caller = limited(org, actor=Rate(10, 1))
    assert call(agents.handler, "GET", "/v1/agents", caller).status == 200
    answer = call(agents.handler, "GET", "/v1/agents", caller)
    assert (answer.status, answer.error, answer.json["error"]["retryable"]) == (429, "rate_limited", True)
    assert answer.headers["retry-after"] in ("5", "6")
    assert answer.headers["ratelimit"] == f'"actor.read";r=0;t={answer.headers["retry-after"]}'
    # Making things is counted apart from reading them.
    assert call(agents.handler, "POST", "/v1/agents", caller, json={}).status == 400


def test_who_lacks_the_scope_is_counted_all_the_same(call: Callable[..., Answer], org: Caller) -> None:
    caller = replace(limited(org, actor=Rate(10, 1)), scopes=frozenset())
    answers = [call(agents.handler, "GET", "/v1/agents", caller).status for _ in range(2)]
    assert answers == [403, 429]


def test_who_has_no_limits_is_told_none(call: Callable[..., Answer], org: Caller) -> None:
    assert "ratelimit" not in call(agents.handler, "GET", "/v1/agents", org).headers


def test_without_redis_reading_and_making_go_on_and_spending_waits(
    call: Callable[..., Answer], org: Caller, services: Services
) -> None:
    caller = replace(org, rates=quotas.rates_of("free", {}, None))
    assert "ratelimit" in call(agents.handler, "GET", "/v1/agents", caller).headers
    services.redis.kill()
    read = call(agents.handler, "GET", "/v1/agents", caller)
    assert (read.status, "ratelimit" in read.headers) == (200, False)
    new = {"name": "A", "config": {"instructions": "Be brief."}}
    made = call(agents.handler, "POST", "/v1/agents", caller, json=new)
    assert made.status == 201
    spending = [
        call(inference.handler, "POST", "/v1/chat/completions", caller, json={}),
        call(runs.handler, "POST", f"/v1/agents/{made.json['id']}/runs", caller, json={"input": "Hello"}),
        call(sandboxes.handler, "POST", "/v1/sandboxes", caller, json={}),
    ]
    for answer in spending:
        assert (answer.status, answer.error) == (503, "rate_limiter_unavailable")
        assert int(answer.headers["retry-after"]) >= 1
    health = call(identity.handler, "GET", "/v1/health")
    assert (health.status, health.json["status"], health.json["redis"]) == (200, "degraded", "down")


def test_limits_hold_again_once_redis_is_back(org: Caller, redis: Redis, services: Services) -> None:
    caller = limited(org, actor=Rate(1, 1))
    services.redis.kill()
    limiting.count(caller, RateKind.READ).admit(spends=False)
    with pytest.raises(RateLimiterUnavailable):
        limiting.count(caller, RateKind.READ).admit(spends=True)
    services.redis.start()
    cache._breaker.succeeded()
    # A Redis that was restarted doesn't know the script any more.
    limiting.count(caller, RateKind.READ).admit(spends=True)
    with pytest.raises(RateLimited):
        limiting.count(caller, RateKind.READ).admit(spends=False)


def test_each_plans_limits_fit_what_the_authorizer_can_hand_on() -> None:
    text = quotas.rates_of("enterprise", {"rates": {"read": 10**9, "create": 10**9, "model": 10**9}}, 10**9)
    assert len(text) < 250
    assert [name for name, _ in rates.read(text, RateKind.MODEL)] == ["key", "actor.model", "org.model"]
