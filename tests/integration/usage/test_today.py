"""Today's figures: from Redis while they are fresh, else counted anew; nothing that spends or limits believes Redis."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from redis import Redis

from functions.api.agents import handler as agents_api
from functions.api.billing import handler as billing_api
from functions.api.usage import handler as usage_api
from shared.billing import service as billing
from shared.kernel import cache, clock, db
from shared.kernel.caller import Caller
from shared.kernel.errors import InsufficientCredits, QuotaExceeded
from shared.quotas import service as quotas
from shared.quotas.plans import Resource
from shared.usage import service as usage
from shared.usage.model import UsageKind
from tests.api_gateway import Answer
from tests.services import Services

type Call = Callable[..., Answer]
type At = Callable[[datetime], None]
NOON = datetime(2026, 6, 15, 12, tzinfo=UTC)


@pytest.fixture(autouse=True)
def forgotten_breaker() -> Iterator[None]:
    """Each test starts and ends as a process that has had no trouble with Redis."""
    cache._breaker.succeeded()
    yield
    cache._breaker.succeeded()


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> At:
    """`at(moment)`: the time it is from then on; noon at first."""

    def hold(moment: datetime) -> None:
        monkeypatch.setattr(clock, "now", lambda: moment)

    hold(NOON)
    return hold


def record(caller: Caller, source: str, *, quantity: int = 100, at: datetime = NOON) -> None:
    with db.tenant(caller) as tx:
        usage.record(
            tx,
            caller,
            kind=UsageKind.TOKENS_INPUT,
            quantity=quantity,
            cost_microusd=7,
            source_id=source,
            occurred_at=at,
            dimensions={},
        )


def asked(call: Call, caller: Caller) -> dict[str, Any]:
    answer = call(usage_api, "GET", "/v1/usage/today", caller)
    assert answer.status == 200, answer.text
    body: dict[str, Any] = answer.json
    return body


def shown(call: Call, caller: Caller) -> dict[str, int]:
    """Return the quantities of today's tokens and calls."""
    used = {each["kind"]: each["quantity"] for each in asked(call, caller)["data"]}
    return {"tokens": used["tokens_input"], "calls": used["api_calls"]}


def key_of(caller: Caller) -> str:
    return f"usage:today:{caller.org_id}:2026-06-15"


def test_today_shows_each_kind_with_its_cost_since_midnight_in_utc(
    call: Call, org: Caller, rival: Caller, at: At
) -> None:
    midnight = NOON.replace(hour=0)
    record(org, "call:1", at=midnight - timedelta(microseconds=1))
    record(org, "call:2", at=midnight)
    record(org, "call:3", at=midnight + timedelta(days=1, microseconds=-1))
    record(org, "call:4", at=midnight + timedelta(days=1))
    found = asked(call, org)
    assert (found["object"], found["day"], found["as_of"]) == ("usage_today", "2026-06-15", "2026-06-15T12:00:00Z")
    assert [each["kind"] for each in found["data"]] == list(UsageKind)
    assert (found["data"][0]["quantity"], found["data"][0]["unit"], found["cost_microusd"]) == (200, "token", 14)
    assert shown(call, rival) == {"tokens": 0, "calls": 0}


def test_requests_are_in_todays_figures_before_their_window_is_closed(call: Call, org: Caller, at: At) -> None:
    for _ in range(3):
        call(agents_api, "GET", "/v1/agents", org)
    assert shown(call, org)["calls"] == 3
    at(NOON + timedelta(days=1))
    # The one that asked is of yesterday, and so are the others.
    assert shown(call, org)["calls"] == 0


def test_figures_are_kept_for_ten_seconds_and_no_longer(call: Call, org: Caller, at: At, redis: Redis) -> None:
    record(org, "call:1")
    assert shown(call, org)["tokens"] == 100
    record(org, "call:2")
    at(NOON + timedelta(seconds=9.9))
    assert (shown(call, org)["tokens"], asked(call, org)["as_of"]) == (100, "2026-06-15T12:00:00Z")
    # Redis would still have them.
    assert 0 < int(redis.ttl(key_of(org))) <= 10
    at(NOON + timedelta(seconds=10))
    assert (shown(call, org)["tokens"], asked(call, org)["as_of"]) == (200, "2026-06-15T12:00:10Z")


def test_figures_of_yesterday_are_not_shown_today(call: Call, org: Caller, at: At) -> None:
    last = NOON.replace(hour=23, minute=59, second=59)
    at(last)
    record(org, "call:1", at=last)
    assert shown(call, org)["tokens"] == 100
    at(last + timedelta(seconds=1))
    assert (shown(call, org)["tokens"], asked(call, org)["day"]) == (0, "2026-06-16")


def test_without_redis_the_ledger_answers(call: Call, org: Caller, at: At, services: Services) -> None:
    record(org, "call:1")
    services.redis.kill()
    assert shown(call, org)["tokens"] == 100
    services.redis.start()
    cache._breaker.succeeded()
    assert shown(call, org)["tokens"] == 100


def planted(as_of: datetime, *, tokens: Any = 1_000_000, **changes: Any) -> bytes:
    """Return wrong figures, as our own would be written but for the changes."""
    used: dict[str, Any] = {kind.value: [0, 0] for kind in UsageKind} | {"tokens_input": [tokens, 0]}
    return json.dumps({"as_of": as_of.isoformat(), "used": used} | changes).encode()


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"\xff\x00garbage",
        b"null",
        b"[1]",
        planted(NOON)[:-1],
        planted(NOON - timedelta(seconds=10)),
        planted(NOON + timedelta(microseconds=1)),
        planted(NOON.replace(year=9999)),
        planted(NOON.replace(tzinfo=None)),
        planted(NOON, tokens=-1),
        planted(NOON, tokens="1000000"),
        planted(NOON, tokens=1e6),
        planted(NOON, tokens=True),
        planted(NOON, used={"tokens_input": [1_000_000, 0]}),
        planted(NOON, used={}),
        planted(NOON, more=1),
    ],
    ids=[
        "nothing",
        "garbage",
        "null",
        "a list",
        "cut off",
        "old",
        "of the future",
        "of a far future",
        "of no time zone",
        "negative",
        "text",
        "a float",
        "a boolean",
        "a kind only",
        "no kind",
        "something else with it",
    ],
)
def test_what_else_stands_in_redis_is_as_good_as_nothing(
    call: Call, org: Caller, at: At, redis: Redis, value: bytes
) -> None:
    record(org, "call:1")
    redis.set(key_of(org), value)
    assert shown(call, org)["tokens"] == 100


def test_something_of_another_type_in_redis_is_as_good_as_nothing(
    call: Call, org: Caller, at: At, redis: Redis
) -> None:
    record(org, "call:1")
    redis.rpush(key_of(org), "x")
    assert shown(call, org)["tokens"] == 100


@pytest.mark.parametrize("trouble", ["wrong figures", "lost"])
def test_credits_and_quotas_are_decided_by_postgres_whatever_redis_says(
    call: Call, org: Caller, at: At, redis: Redis, services: Services, trouble: str
) -> None:
    with db.tenant(org) as tx:
        before = billing.balance(tx).available_microusd
        billing.grant(tx, org, amount_microusd=1_000, source_id="purchase:1", reason="test")
        limit = next(each.limit for each in quotas.status(tx, org.org_id) if each.resource is Resource.SANDBOXES)
    assert limit is not None
    if trouble == "lost":
        services.redis.kill()
    else:
        redis.set(key_of(org), planted(NOON, tokens=2**62))
        assert shown(call, org)["tokens"] == 2**62
    in_ten_minutes = clock.now() + timedelta(minutes=10)
    with db.tenant(org) as tx:
        billing.hold(tx, org, amount_microusd=before + 900, source_id="run:1", expires_at=in_ten_minutes)
    with db.tenant(org) as tx, pytest.raises(InsufficientCredits):
        billing.hold(tx, org, amount_microusd=101, source_id="run:2", expires_at=in_ten_minutes)
    with db.tenant(org) as tx:
        billing.settle(tx, org, source_id="run:1", amount_microusd=before + 900)
        quotas.allocate(tx, org.org_id, Resource.SANDBOXES, holder="sbx_1", amount=limit)
    with db.tenant(org) as tx, pytest.raises(QuotaExceeded):
        quotas.allocate(tx, org.org_id, Resource.SANDBOXES, holder="sbx_2")
    answer = call(billing_api, "GET", "/v1/credits", org)
    assert answer.json["available_microusd"] == 100
    services.redis.start()
