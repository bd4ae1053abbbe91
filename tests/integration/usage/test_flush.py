"""The flush every five minutes: counted requests become usage once, days are right again, no tenant stops another."""

import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from functools import partial

import psycopg
import pytest
from redis import Redis

from functions.api.usage import handler as usage_api
from functions.schedules import flush_usage
from shared.billing import service as billing
from shared.identity.policy import Role
from shared.kernel import clock, counting, db, ids
from shared.kernel.caller import Caller
from shared.kernel.errors import InternalError
from shared.kernel.pagination import Slice
from shared.usage import calls, days
from shared.usage import service as usage
from shared.usage.days_model import recorded_since
from shared.usage.model import NewEvent, UsageEvent, UsageKind
from tests.api_gateway import Answer, Context
from tests.people import joined
from tests.services import Services
from tests.waiting import until

type Call = Callable[..., Answer]
NOON = datetime(2026, 6, 15, 12, tzinfo=UTC)
# The window that begins at noon is closed from here on.
CLOSED = NOON + timedelta(minutes=6, microseconds=1)


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> Callable[[datetime], None]:
    """`at(moment)`: the time it is from then on."""
    return lambda moment: monkeypatch.setattr(clock, "now", lambda: moment)


def flush() -> dict[str, int]:
    done: dict[str, int] = flush_usage.handler({}, Context())
    return done


def events(caller: Caller) -> list[UsageEvent]:
    """Return the caller's counted requests in the ledger, by source."""
    with db.tenant(caller) as tx:
        found = usage.list_events(tx, Slice(limit=100), kind=UsageKind.API_CALLS)
    return sorted(found, key=lambda event: event.source_id)


def in_ledger(caller: Caller) -> int:
    with db.tenant(caller) as tx:
        return usage.summary(tx, since=NOON - timedelta(days=9), until=NOON + timedelta(days=9))[-1].quantity


def in_counters(caller: Caller) -> int:
    with db.tenant(caller) as tx:
        row = tx.execute("SELECT coalesce(sum(calls), 0)::bigint AS calls FROM api_calls").fetchone()
    return row["calls"] if row else -1


def on_day(caller: Caller, day: date) -> dict[str, int]:
    """Return what `usage_daily` holds, by kind."""
    with db.tenant(caller) as tx:
        rows = tx.execute(
            "SELECT kind, sum(quantity)::bigint AS used FROM usage_daily WHERE day = %s GROUP BY 1", [day]
        )
        return {row["kind"]: row["used"] for row in rows}


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


def test_what_was_counted_in_a_window_becomes_one_event_for_each_actor(
    org: Caller, at: Callable[[datetime], None]
) -> None:
    at(NOON)
    person = joined(org, Role.MEMBER)
    for caller in (org, person, org):
        counting.count(caller, 200)
    at(CLOSED)
    assert flush()["windows"] == 2
    by_key, by_person = events(org)
    epoch = int(NOON.timestamp())
    assert (by_key.quantity, by_key.source_id, by_key.occurred_at) == (2, f"calls:{epoch}:{org.actor_id}", NOON)
    assert by_key.dimensions == {"key_id": org.actor_id}
    assert (by_person.quantity, by_person.source_id) == (1, f"calls:{epoch}:{person.actor_id}")
    assert person.person_id is not None
    assert by_person.dimensions == {"person_id": ids.show("user", person.person_id)}
    assert in_counters(org) == 0


def test_a_window_stays_open_until_a_minute_after_its_end(org: Caller, at: Callable[[datetime], None]) -> None:
    at(NOON)
    counting.count(org, 200)
    at(NOON + timedelta(minutes=6))
    assert flush() == {"windows": 0, "days": 0, "today": 0}
    assert (in_counters(org), in_ledger(org)) == (1, 0)
    at(CLOSED)
    flush()
    assert (in_counters(org), in_ledger(org)) == (0, 1)


def test_what_is_counted_after_its_window_was_closed_is_added(org: Caller, at: Callable[[datetime], None]) -> None:
    # The second actor's name begins as the first one's.
    longer = replace(org, actor_id=f"{org.actor_id}0")
    for _ in range(12):
        at(NOON)
        counting.count(org, 200)
        counting.count(longer, 200)
        at(CLOSED)
        flush()
    first = f"calls:{int(NOON.timestamp())}:{org.actor_id}"
    wanted = {name for actor in (first, f"{first}0") for name in (actor, *(f"{actor}:{n}" for n in range(1, 12)))}
    assert {event.source_id for event in events(org)} == wanted
    assert (in_ledger(org), in_counters(org)) == (24, 0)


def test_more_windows_than_one_transaction_takes_are_closed_in_several(
    org: Caller, at: Callable[[datetime], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls, "AT_ONCE", 3)
    for number in range(8):
        at(NOON + number * counting.WINDOW)
        counting.count(org, 200)
    at(NOON + timedelta(days=1))
    assert flush()["windows"] == 8
    assert (in_ledger(org), in_counters(org)) == (8, 0)


def test_many_flushes_and_many_requests_at_once_lose_none_and_double_none(
    org: Caller, at: Callable[[datetime], None]
) -> None:
    at(NOON)
    close = partial(flush_usage.close_windows, calls.closed_before(CLOSED), org.org_id)
    with ThreadPoolExecutor(8) as pool:
        work = [pool.submit(counting.count, org, 200) if n % 3 else pool.submit(close) for n in range(300)]
        for each in work:
            each.result()
    close()
    assert (in_ledger(org), in_counters(org)) == (200, 0)


def test_who_closes_a_window_waits_for_whoever_is_closing_it(
    org: Caller, at: Callable[[datetime], None], services: Services, database: str
) -> None:
    at(NOON)
    counting.count(org, 200)
    before = calls.closed_before(CLOSED)
    with ThreadPoolExecutor(1) as pool:
        with db.tenant(org) as tx:
            taken = calls.take_closed(tx, before=before)
            with db.tenant(org) as late:
                late.execute("INSERT INTO api_calls VALUES (%s, %s, %s, NULL, 4, 10)", [org.org_id, NOON, org.actor_id])
            second = pool.submit(flush_usage.close_windows, before, org.org_id)
            with psycopg.connect(services.superuser_url(database), autocommit=True) as connection:
                until(
                    lambda: connection.execute("SELECT FROM pg_locks WHERE NOT granted").fetchone() is not None,
                    "somebody who waits",
                )
            billing.meter(tx, org, taken)
        assert second.result() == 1
    assert [event.quantity for event in events(org)] == [1, 10]


def test_a_flush_killed_before_any_of_its_statements_loses_and_doubles_nothing(
    org: Caller, at: Callable[[datetime], None]
) -> None:
    worker = [sys.executable, "-m", "tests.integration.usage.dying_flush", str(org.org_id)]
    done = subprocess.run(worker, check=True, capture_output=True, text=True, timeout=120)
    statements = int(done.stdout.splitlines()[-1])
    # It was killed at every statement there is.
    assert statements > 10
    assert in_ledger(org) + in_counters(org) == 2 * statements
    at(NOON + timedelta(days=2))
    flush()
    assert (in_ledger(org), in_counters(org)) == (2 * statements, 0)
    in_days = [on_day(org, NOON.date() + timedelta(days=n)).get("api_calls", 0) for n in range(3)]
    assert sum(in_days) == 2 * statements


def test_a_source_that_was_used_before_is_no_reason_to_lose_what_was_counted(
    org: Caller, rival: Caller, at: Callable[[datetime], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    at(NOON)
    for caller in (org, rival):
        counting.count(caller, 200)
    # As if the numbers under which late counts are recorded were wrong.
    with db.tenant(org) as tx:
        usage.record(
            tx,
            org,
            kind=UsageKind.API_CALLS,
            quantity=0,
            cost_microusd=0,
            source_id=f"calls:{int(NOON.timestamp())}:{org.actor_id}:1",
            occurred_at=NOON,
            dimensions={},
        )
    at(CLOSED)
    with pytest.raises(ExceptionGroup) as failed:
        flush()
    assert failed.group_contains(InternalError)
    assert (in_counters(org), in_ledger(org)) == (1, 0)
    # The other tenant is none the worse.
    assert (in_counters(rival), in_ledger(rival)) == (0, 1)


def test_a_late_event_makes_its_day_be_added_up_again(org: Caller) -> None:
    long_ago = clock.now() - timedelta(days=40)
    record(org, "call:1", at=long_ago)
    flush()
    assert on_day(org, long_ago.date()) == {"tokens_input": 100}
    record(org, "call:2", at=long_ago, quantity=11)
    flush()
    assert on_day(org, long_ago.date()) == {"tokens_input": 111}


def test_after_an_outage_of_a_day_nothing_is_missing_from_the_days(org: Caller) -> None:
    record(org, "call:1", at=NOON)
    flush()
    with db.tenant(org) as tx:
        days.caught_up(tx, org, as_of=clock.now() - timedelta(days=1))
        tx.execute("UPDATE usage_watermarks SET added_until = added_until - interval '1 day'")
    record(org, "call:2", at=NOON + timedelta(days=1))
    assert flush()["days"] == 2
    assert on_day(org, NOON.date() + timedelta(days=1)) == {"tokens_input": 100}


def test_days_that_could_not_be_added_up_are_added_up_next_time(org: Caller, services: Services, database: str) -> None:
    # An event's id says when it was recorded: a day ago, and never looked at since.
    of_yesterday = recorded_since(clock.now() - timedelta(days=1))
    with db.tenant(org) as tx:
        usage.record_batch(tx, org, [NewEvent(UsageKind.TOKENS_INPUT, 111, 7, "call:1", NOON, {}, id=of_yesterday)])
    with psycopg.connect(services.superuser_url(database), autocommit=True) as connection:
        connection.execute("ALTER TABLE usage_daily ADD CONSTRAINT broken CHECK (quantity < 111) NOT VALID")
        with pytest.raises(ExceptionGroup):
            flush()
        connection.execute("ALTER TABLE usage_daily DROP CONSTRAINT broken")
    flush()
    assert on_day(org, NOON.date()) == {"tokens_input": 111}


def test_nobody_without_new_usage_is_looked_at(org: Caller, at: Callable[[datetime], None]) -> None:
    assert flush() == {"windows": 0, "days": 0, "today": 0}


def test_the_flush_renews_todays_figures(org: Caller, call: Call, redis: Redis) -> None:
    record(org, "call:1", at=clock.now())
    flush()
    [key] = redis.keys(f"usage:today:{org.org_id}:*")
    kept = redis.get(key)
    answer = call(usage_api, "GET", "/v1/usage/today", org).json
    assert answer["data"][0] == {
        "object": "usage_total",
        "kind": "tokens_input",
        "unit": "token",
        "quantity": 100,
        "cost_microusd": 7,
    }
    assert redis.get(key) == kept
