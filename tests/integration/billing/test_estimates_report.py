"""The report on estimates: noted as something starts, closed as it ends, told by week."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from functions.api import estimates
from shared.billing import service as billing
from shared.kernel import clock, db
from shared.kernel.caller import Caller
from shared.sandboxes import service as sandboxes_service
from shared.sandboxes import store as sandbox_store
from shared.sandboxes.model import StopReason
from tests.integration.billing.estimated import (
    BUDGET,
    Call,
    agent_of,
    cancelled_run,
    enrich,
    run_costing,
    start_run,
)


@pytest.fixture
def report(call: Call, org: Caller) -> Callable[..., list[dict[str, Any]]]:
    """`report(since, until)`: the weeks of the report."""

    def ask(query: str = "", *, caller: Caller = org) -> list[dict[str, Any]]:
        answer = call(estimates.handler, "GET", f"/v1/reports/estimates{query}", caller)
        assert answer.status == 200, answer.text
        data: list[dict[str, Any]] = answer.json["data"]
        return data

    return ask


def test_a_run_s_estimate_is_noted_as_it_starts_and_closed_as_it_ends(
    org: Caller, rival: Caller, report: Callable[..., list[dict[str, Any]]]
) -> None:
    enrich(org)
    agent_id = agent_of(org)
    start_run(org, agent_id)
    assert report() == []
    for cost in (100, 0, BUDGET):
        run_costing(org, agent_id, cost)
    cancelled_run(org, agent_id)
    [week] = report()
    expected = week["expected_microusd"] // 3
    year, number, _ = clock.now().isocalendar()
    assert week == {
        "week": f"{year}-W{number:02d}",
        "week_begins": (clock.now().date() - timedelta(days=clock.now().weekday())).isoformat(),
        "kind": "run",
        "basis": "price_book",
        "count": 3,
        "free": 1,
        "error_percent": round(100 * ((expected - 100) / 100 + (BUDGET - expected) / BUDGET) / 2, 2),
        "within_p90": 1.0,
        "beyond_worst": 0.0,
        "expected_microusd": 3 * expected,
        "actual_microusd": 100 + BUDGET,
    }
    assert report(caller=rival) == []


def test_history_and_price_book_are_told_apart(org: Caller, report: Callable[..., list[dict[str, Any]]]) -> None:
    enrich(org)
    agent_id = agent_of(org)
    for cost in (10, 20, 30, 40, 50, 60, 20):
        run_costing(org, agent_id, cost)
    by_basis = {week["basis"]: week for week in report()}
    assert (by_basis["price_book"]["count"], by_basis["history"]["count"]) == (5, 2)
    # Of 10 to 50 the mean is 30 and p90 is 50, and 60 was beyond; of 10 to 60 it is 35, and 20 was within 60.
    assert by_basis["history"] | {"week": "", "week_begins": ""} == {
        "week": "",
        "week_begins": "",
        "kind": "run",
        "basis": "history",
        "count": 2,
        "free": 0,
        "error_percent": round(100 * (30 / 60 + 15 / 20) / 2, 2),
        "within_p90": 0.5,
        "beyond_worst": 0.0,
        "expected_microusd": 65,
        "actual_microusd": 80,
    }


def test_a_sandbox_s_estimate_is_closed_by_its_end_unless_it_never_was_ready(
    org: Caller, report: Callable[..., list[dict[str, Any]]]
) -> None:
    enrich(org)
    for ready in (True, False):
        with db.tenant(org) as tx:
            started = sandboxes_service.create(tx, org, ttl_s=600, metadata={})
            if ready:
                sandbox_store.save(tx, started.ready(started.created_at))
            sandboxes_service.end_in(tx, org, started.id, reason=StopReason.REQUESTED)
    [week] = report()
    assert (week["kind"], week["count"], week["expected_microusd"]) == (
        "sandbox",
        1,
        sandboxes_service.worst_case_cost(600),
    )
    assert 0 < week["actual_microusd"] <= week["expected_microusd"]


def test_weeks_begin_on_monday_in_utc_whatever_zone_is_asked_in(
    org: Caller, report: Callable[..., list[dict[str, Any]]]
) -> None:
    with db.tenant(org) as tx:
        for n, closed_at in enumerate(
            # The last second of ISO year 2026, which has 53 weeks, and the first of the next.
            ("2027-01-03T23:59:59Z", "2027-01-04T00:00:00Z", "2027-01-04T00:00:01Z")
        ):
            tx.execute(
                "INSERT INTO estimates (org_id, subject, kind, basis, samples, expected_microusd, p90_microusd,"
                " worst_microusd, actual_microusd, closed_at) VALUES (%s, %s, 'run', 'history', 9, 4, 5, 6, 5, %s)",
                (org.org_id, f"run_{n}", closed_at),
            )
    query = "?since=2027-01-01T00:00:00%2B02:00&until=2027-02-01T00:00:00Z"
    assert [(week["week"], week["week_begins"], week["count"]) for week in report(query)] == [
        ("2027-W01", "2027-01-04", 2),
        ("2026-W53", "2026-12-28", 1),
    ]
    assert [week["count"] for week in report("?since=2027-01-04T00:00:01Z&until=2027-01-04T00:00:02Z")] == [1]
    assert report("?since=2027-01-05T00:00:00Z&until=2027-01-04T00:00:00Z") == []
    with db.tenant(org) as tx:
        tx.execute("SET LOCAL TIME ZONE 'Pacific/Apia'")
        weeks = billing.accuracy(tx, datetime(2027, 1, 1, tzinfo=UTC), datetime(2027, 2, 1, tzinfo=UTC))
    assert [(week.week.isoformat(), week.count) for week in weeks] == [("2027-01-04", 2), ("2026-12-28", 1)]


def test_a_naive_moment_is_refused(call: Call, org: Caller) -> None:
    answer = call(estimates.handler, "GET", "/v1/reports/estimates?since=2027-01-01T00:00:00", org)
    assert (answer.status, answer.error) == (400, "invalid_request")


def test_an_estimate_is_noted_once_and_closed_once(org: Caller, report: Callable[..., list[dict[str, Any]]]) -> None:
    with db.tenant(org) as tx:
        for expected in (10, 20):
            billing.note_estimate(
                tx, org, subject="run_x", kind="run", estimate=billing.by_price_book(expected, worst_microusd=100)
            )
        for actual in (30, 40):
            billing.close_estimate(tx, subject="run_x", actual_microusd=actual)
        billing.close_estimate(tx, subject="run_from_before_there_were_estimates", actual_microusd=1)
    [week] = report()
    assert (week["count"], week["expected_microusd"], week["actual_microusd"]) == (1, 10, 30)
