"""The usage ledger on real Postgres: counted once, together with its effect, and only for its tenant."""

import itertools
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import LiteralString

import psycopg
import pytest

from functions.api.usage import handler
from shared.kernel import clock, db
from shared.kernel.caller import Caller
from shared.kernel.errors import InvalidRequest
from shared.kernel.pagination import Slice
from shared.usage import service
from shared.usage.model import NewEvent, UsageKind
from tests.api_gateway import Answer
from tests.services import Services

type Call = Callable[..., Answer]
WAITING: LiteralString = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = %s"
NOON = datetime(2026, 6, 15, 12, tzinfo=UTC)


def record(
    caller: Caller,
    kind: UsageKind = UsageKind.TOKENS_INPUT,
    quantity: int = 1_500,
    *,
    source: str = "call:1",
    cost: int = 375,
    at: datetime = NOON,
) -> bool:
    with db.tenant(caller) as tx:
        return service.record(
            tx,
            caller,
            kind=kind,
            quantity=quantity,
            cost_microusd=cost,
            source_id=source,
            occurred_at=at,
            dimensions={"model": "gpt-5-mini"},
        )


def used(caller: Caller, *, since: datetime | None = None, until: datetime | None = None) -> dict[str, tuple[int, int]]:
    """Return quantity and cost of each kind that was used."""
    with db.tenant(caller) as tx:
        totals = service.summary(tx, since=since or NOON - timedelta(days=1), until=until or NOON + timedelta(days=1))
    return {total.kind.value: (total.quantity, total.cost_microusd) for total in totals if total.quantity}


def test_usage_delivered_twice_is_counted_once(org: Caller) -> None:
    assert record(org) is True
    assert record(org) is False
    assert record(org, quantity=9_999, cost=9_999) is False
    assert used(org) == {"tokens_input": (1_500, 375)}


def test_usage_delivered_by_many_workers_at_once_is_counted_once(org: Caller) -> None:
    with ThreadPoolExecutor(8) as pool:
        counted = list(pool.map(lambda n: record(org, source=f"call:{n % 5}"), range(40)))
    assert sum(counted) == 5
    assert used(org) == {"tokens_input": (7_500, 1_875)}


def test_one_source_may_use_several_kinds(org: Caller) -> None:
    record(org)
    record(org, UsageKind.TOKENS_OUTPUT, 200, cost=400)
    record(org, UsageKind.SANDBOX_SECONDS, 60, source="sandbox:1", cost=165)
    assert used(org) == {"tokens_input": (1_500, 375), "tokens_output": (200, 400), "sandbox_seconds": (60, 165)}


def test_usage_whose_effect_is_rolled_back_was_never_counted(org: Caller) -> None:
    class Crash(Exception):
        pass

    def crash_after_recording() -> None:
        with db.tenant(org) as tx:
            service.record(
                tx,
                org,
                kind=UsageKind.TOKENS_INPUT,
                quantity=1,
                cost_microusd=1,
                source_id="call:1",
                occurred_at=NOON,
                dimensions={},
            )
            raise Crash

    with pytest.raises(Crash):
        crash_after_recording()
    assert used(org) == {}
    assert record(org) is True


def test_a_range_begins_at_since_and_ends_before_until(org: Caller) -> None:
    record(org, source="early", at=NOON - timedelta(microseconds=1))
    record(org, source="first", at=NOON, quantity=10)
    record(org, source="last", at=NOON + timedelta(hours=1, microseconds=-1), quantity=20)
    record(org, source="late", at=NOON + timedelta(hours=1))
    assert used(org, since=NOON, until=NOON + timedelta(hours=1))["tokens_input"][0] == 30


def test_the_sum_of_days_equals_the_range(org: Caller) -> None:
    for n in range(20):
        record(org, source=f"call:{n}", at=NOON + timedelta(hours=5 * n), quantity=n, cost=n)
    days = [NOON + timedelta(days=n) for n in range(6)]
    by_day = [
        used(org, since=since, until=until).get("tokens_input", (0, 0)) for since, until in itertools.pairwise(days)
    ]
    assert sum(quantity for quantity, _ in by_day) == sum(range(20))
    assert used(org, since=days[0], until=days[-1])["tokens_input"][0] == sum(range(20))


def test_a_range_that_ends_before_it_begins_is_refused(org: Caller) -> None:
    with pytest.raises(InvalidRequest, match="until"):
        used(org, since=NOON, until=NOON)


def test_another_tenant_sees_none_of_it_and_may_use_the_same_source(org: Caller, rival: Caller) -> None:
    record(org)
    assert used(rival) == {}
    with db.tenant(rival) as tx:
        assert service.list_events(tx, Slice()) == []
    assert record(rival, quantity=7, cost=2) is True
    assert (used(org), used(rival)) == ({"tokens_input": (1_500, 375)}, {"tokens_input": (7, 2)})


@pytest.mark.parametrize("statement", ["UPDATE usage_events SET quantity = 0", "DELETE FROM usage_events"])
def test_the_application_cannot_change_what_was_used(org: Caller, statement: str) -> None:
    record(org)
    with pytest.raises(psycopg.errors.InsufficientPrivilege), db.tenant(org) as tx:
        tx.execute(statement.encode())


def test_the_api_sums_up_the_last_30_days_by_default(call: Call, org: Caller) -> None:
    record(org, at=clock.now() - timedelta(days=29))
    record(org, source="old", at=clock.now() - timedelta(days=31))
    answer = call(handler, "GET", "/v1/usage", org)
    assert answer.status == 200
    assert answer.json["cost_microusd"] == 375
    assert [total["kind"] for total in answer.json["data"]] == [kind.value for kind in UsageKind]
    assert answer.json["data"][0] == {
        "object": "usage_total",
        "kind": "tokens_input",
        "unit": "token",
        "quantity": 1_500,
        "cost_microusd": 375,
    }


def test_the_api_sums_up_the_range_it_is_asked_for(call: Call, org: Caller) -> None:
    record(org)
    path = "/v1/usage?since=2026-06-15T12:00:00Z&until=2026-06-15T14:30:00%2B02:00"
    assert call(handler, "GET", path, org).json["cost_microusd"] == 375


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("since=2026-06-15T12:00:00", "since"),
        ("since=yesterday", "since"),
        ("until=0001-01-01T00:00:00Z", "until"),
        ("until=9999-12-31T23:59:59Z", "until"),
        ("since=2026-06-15T12:00:00Z&until=2026-06-15T12:00:00Z", "until"),
    ],
)
def test_an_impossible_range_is_refused_and_named(call: Call, org: Caller, query: str, param: str) -> None:
    answer = call(handler, "GET", f"/v1/usage?{query}", org)
    assert (answer.status, answer.error, answer.json["error"]["param"]) == (400, "invalid_request", param)


def test_events_are_listed_by_kind_and_page(call: Call, org: Caller) -> None:
    for n in range(3):
        record(org, source=f"call:{n}", quantity=n)
        record(org, UsageKind.TOKENS_OUTPUT, n, source=f"call:{n}")
    first = call(handler, "GET", "/v1/usage/events?kind=tokens_output&limit=2", org).json
    rest = call(handler, "GET", f"/v1/usage/events?kind=tokens_output&limit=2&cursor={first['next_cursor']}", org).json
    assert [event["source_id"] for event in first["data"] + rest["data"]] == ["call:2", "call:1", "call:0"]
    assert (first["has_more"], rest["has_more"]) == (True, False)
    assert first["data"][0]["dimensions"] == {"model": "gpt-5-mini", "key_id": org.actor_id}
    assert call(handler, "GET", "/v1/usage/events?kind=nonsense", org).status == 400


@pytest.mark.parametrize("path", ["/v1/usage", "/v1/usage/events"])
def test_reading_usage_takes_a_key_with_the_scope(call: Call, org: Caller, path: str) -> None:
    assert call(handler, "GET", path).status == 401
    unscoped = replace(org, scopes=org.scopes - {"usage:read"})
    assert call(handler, "GET", path, unscoped).status == 403


def test_a_path_that_does_not_exist_is_answered_404_in_the_envelope(call: Call, org: Caller) -> None:
    answer = call(handler, "GET", "/v1/usage/nonsense", org)
    assert (answer.status, answer.error) == (404, "route_not_found")


def new(source: str, kind: UsageKind = UsageKind.API_CALLS, quantity: int = 1) -> NewEvent:
    return NewEvent(kind, quantity, 0, source, NOON, {})


def batch(caller: Caller, *events: NewEvent) -> list[str]:
    """Record a batch and return the sources of what is new."""
    with db.tenant(caller) as tx:
        return [event.source_id for event in service.record_batch(tx, caller, events)]


def test_of_a_batch_exactly_what_is_new_is_recorded_and_returned(org: Caller) -> None:
    assert batch(org, new("b"), new("a"), new("b", quantity=9)) == ["a", "b"]
    assert batch(org, new("c"), new("b"), new("a", UsageKind.CALL_SECONDS)) == ["a", "c"]
    assert batch(org) == []
    assert used(org) == {"api_calls": (3, 0), "call_seconds": (1, 0)}


def test_batches_in_opposite_order_never_wait_for_each_other_in_a_circle(
    org: Caller, services: Services, database: str
) -> None:
    url = services.superuser_url(database)
    with (
        psycopg.connect(url) as blocker,
        psycopg.connect(url, autocommit=True) as looker,
        ThreadPoolExecutor(2) as pool,
    ):
        blocker.execute("INSERT INTO usage_claims VALUES (%s, 'm', 'api_calls')", (org.org_id,))
        # Each has claimed one end, or waits for who has, when the middle becomes free.
        asked = [pool.submit(batch, org, *(new(source) for source in order)) for order in ("amz", "zma")]
        deadline = time.monotonic() + 30
        while looker.execute(WAITING, (database,)).fetchone() != (2,):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        blocker.rollback()
        assert sorted(source for each in asked for source in each.result()) == ["a", "m", "z"]


def test_anything_a_source_or_dimension_may_hold_is_stored_as_it_is(org: Caller) -> None:
    odd = 'a,"b"\\{}\' NULL é \t\n'
    with db.tenant(org) as tx:
        service.record_batch(tx, org, [NewEvent(UsageKind.API_CALLS, 2**40, 0, odd, NOON, {"note": odd})])
        service.record_batch(tx, org, [NewEvent(UsageKind.API_CALLS, 1, 0, "NULL", NOON, {})])
        found = service.list_events(tx, Slice())
    assert {event.source_id for event in found} == {odd, "NULL"}
    assert {event.dimensions.get("note") for event in found} == {odd, None}


def test_another_org_cannot_be_recorded_for(org: Caller, rival: Caller) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege), db.tenant(org) as tx:
        service.record_batch(tx, rival, [new("a")])
