"""AggregateUsage, executed: every tenant's days, one tenant's failure apart, again without harm, page by page."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from itertools import count
from typing import Any

import psycopg
import pytest

from functions.steps import aggregate_org, conclude_aggregation, list_orgs
from infra_cdk.constructs.code import REPOSITORY
from local.aggregating import aggregate
from local.errors import HomeError
from shared.kernel import db, ids
from shared.kernel.caller import Caller
from shared.usage import aggregation, days
from shared.usage.aggregation import Job
from tests.api_gateway import Context
from tests.emulator import Emulator
from tests.integration.local.homes import Screen
from tests.integration.usage import aggregating
from tests.integration.usage.machine import Machine, deployed
from tests.integration.usage.metered import event_of, forge, record, used
from tests.services import Services
from tests.waiting import until

NOON = datetime(2026, 6, 15, 12, tzinfo=UTC)


@pytest.fixture
def machine(emulator: Emulator) -> Iterator[Machine]:
    """The machine on the emulator."""
    with deployed(emulator, "runyard-local-aggregate-usage") as made:
        yield made


def added_up(caller: Caller) -> dict[date, int]:
    """Return the quantity of each day as it was added up."""
    with db.tenant(caller) as tx:
        rows = tx.execute("SELECT day, sum(quantity)::bigint AS quantity FROM usage_daily GROUP BY day ORDER BY day")
        return {row["day"]: row["quantity"] for row in rows}


def output(execution: dict[str, Any]) -> Any:
    assert execution["status"] == "SUCCEEDED", execution
    return json.loads(execution["output"])


@pytest.fixture
def breaking(services: Services, database: str) -> Callable[[Caller, bool], None]:
    """`breaking(caller, True)`: the database refuses this tenant's days until `breaking(caller, False)`."""

    def change(caller: Caller, broken: bool) -> None:
        with psycopg.connect(services.superuser_url(database), autocommit=True) as connection:
            connection.execute("DROP TRIGGER IF EXISTS broken ON usage_daily")
            connection.execute(
                "CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS "
                "$$ BEGIN RAISE EXCEPTION 'broken'; END $$"
            )
            if broken:
                connection.execute(
                    f"CREATE TRIGGER broken BEFORE INSERT ON usage_daily FOR EACH ROW "
                    f"WHEN (NEW.org_id = '{caller.org_id}') EXECUTE FUNCTION refuse()".encode()
                )

    return change


def test_the_machine_adds_up_whatever_was_recorded_and_nothing_twice(
    machine: Machine, org: Caller, rival: Caller
) -> None:
    used(org, NOON, 7)
    used(org, NOON - timedelta(days=30), 5)
    used(rival, NOON, 11)
    assert output(machine.run()) == {"orgs": 2}
    assert added_up(org) == {date(2026, 5, 16): 5, NOON.date(): 7}
    assert added_up(rival) == {NOON.date(): 11}
    assert output(machine.run()) == {"orgs": 0}
    used(org, NOON - timedelta(days=30), 1, ago=timedelta(0))
    forge(org, NOON.date(), quantity=1_000)
    assert output(machine.run()) == {"orgs": 1}
    assert added_up(org) == {date(2026, 5, 16): 6, NOON.date(): 1_000}


def test_one_tenants_failure_stops_no_other_and_is_made_up_for_by_the_next_run(
    machine: Machine, org: Caller, rival: Caller, breaking: Callable[[Caller, bool], None]
) -> None:
    used(org, NOON, 7)
    used(rival, NOON, 11)
    breaking(org, True)
    failed = machine.run()
    assert (failed["status"], failed["error"]) == ("FAILED", "AggregationIncomplete")
    assert ids.show("org", org.org_id) in failed["cause"]
    assert ids.show("org", rival.org_id) not in failed["cause"]
    assert (added_up(org), added_up(rival)) == ({}, {NOON.date(): 11})
    breaking(org, False)
    assert output(machine.run()) == {"orgs": 1}
    assert added_up(org) == {NOON.date(): 7}


def test_a_range_is_filled_in_for_all_or_for_one(machine: Machine, org: Caller, rival: Caller) -> None:
    for caller in (org, rival):
        for n in range(4):
            used(caller, NOON + timedelta(days=n), n + 1)
    machine.run()
    for caller in (org, rival):
        for n in range(4):
            forge(caller, date(2026, 6, 15 + n), quantity=1_000)
    of_one = {"since": "2026-06-16", "until": "2026-06-16", "org_id": ids.show("org", org.org_id)}
    assert output(machine.run(of_one)) == {"orgs": 1}
    assert list(added_up(org).values()) == [1_000, 2, 1_000, 1_000]
    assert output(machine.run({"since": "2026-06-17", "until": "2026-06-30"})) == {"orgs": 2}
    assert list(added_up(org).values()) == [1_000, 2, 3, 4]
    assert list(added_up(rival).values()) == [1_000, 1_000, 3, 4]
    assert output(machine.run({"since": "2026-01-01", "until": "2026-01-31"})) == {"orgs": 0}


def test_many_tenants_are_done_page_by_page_and_the_rest_by_another_execution(
    machine: Machine, org: Caller, rival: Caller, operator: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aggregation, "PAGE", 1)
    monkeypatch.setattr(aggregation, "MAX_PAGES", 2)
    callers = [org, rival, operator]
    for caller in callers:
        used(caller, NOON, 7)
    assert output(machine.run()) == {"orgs": 2}
    until(lambda: machine.executions() == ["SUCCEEDED", "SUCCEEDED"], "the end of the other execution")
    assert machine.orgs_called() == sorted(str(caller.org_id) for caller in callers)
    assert [added_up(caller) for caller in callers] == [{NOON.date(): 7}] * 3
    began = {event["as_of"] for state, event in machine.called if state == "AggregateOrg"}
    assert len(began) == 1, "the other execution goes on with the same job"


def test_the_command_says_how_many_orgs_were_added_up_or_what_stood_in_the_way(
    machine: Machine, org: Caller, services: Services, breaking: Callable[[Caller, bool], None]
) -> None:
    used(org, NOON, 7)
    screen = Screen()
    breaking(org, True)
    day = NOON.date().isoformat()
    assert aggregate(services.home, screen.terminal, since=day, until=day, org_id=None) == 1
    breaking(org, False)
    assert aggregate(services.home, screen.terminal, since=None, until=None, org_id=ids.show("org", org.org_id)) == 0
    assert aggregate(services.home, screen.terminal, since=day, until=None, org_id=None) == 1
    failed, done, refused = screen.text.strip().splitlines()
    assert failed.startswith("aggregate: AggregationIncomplete: 1 orgs")
    assert ids.show("org", org.org_id) in failed
    assert done == "aggregate: orgs=1 ok"
    assert refused.startswith("aggregate: InvalidRequest: ")


def test_a_home_that_is_not_deployed_says_so(emulator: Emulator, services: Services) -> None:
    with pytest.raises(HomeError, match="can't be started"):
        aggregate(services.home, Screen().terminal, since=None, until=None, org_id=None)


def captured(state: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((REPOSITORY / "events" / "steps" / f"{state}.json").read_text())
    return found


def test_the_captured_payloads_are_what_the_states_take(org: Caller) -> None:
    used(org, datetime(2026, 11, 2, tzinfo=UTC), 7)
    listed = list_orgs.handler(captured("list_orgs"), Context())
    assert (listed["orgs"], listed["next"]) == ([str(org.org_id)], "aggregate")
    event = captured("aggregate_org") | {"org_id": str(org.org_id)}
    assert aggregate_org.handler(event, Context()) == {"org_id": str(org.org_id), "days": 1, "failed": False}
    assert conclude_aggregation.handler(captured("conclude_aggregation"), Context()) == {"orgs": 1}


def test_a_tenant_with_more_days_than_time_goes_on_where_it_stopped(machine: Machine, org: Caller) -> None:
    with db.tenant(org) as tx:
        record(tx, org, [event_of(NOON + timedelta(days=n)) for n in range(7)])

    class InAHurry(Context):
        """Time for three days."""

        def __init__(self) -> None:
            super().__init__()
            left = count(3, -1)
            self.get_remaining_time_in_millis = lambda: next(left) * 60_000  # type: ignore[method-assign]

    machine.context = InAHurry
    assert output(machine.run()) == {"orgs": 1}
    assert machine.orgs_called() == [str(org.org_id)] * 3
    assert list(added_up(org).values()) == [1] * 7


def test_a_database_that_is_gone_for_a_moment_is_waited_for(machine: Machine, org: Caller, services: Services) -> None:
    used(org, NOON, 7)

    def cut(state: str, event: dict[str, Any]) -> None:
        machine.before = lambda state, event: None
        services.postgres.kill()
        services.postgres.start()

    machine.before = cut
    assert output(machine.run()) == {"orgs": 1}
    assert added_up(org) == {NOON.date(): 7}


@pytest.mark.parametrize(
    "asked",
    [
        {"since": "2026-06-15"},
        {"since": "2026-06-15", "until": "2026-06-14"},
        {"since": "2006-06-15", "until": "2026-06-14"},
        {"since": "yesterday", "until": "today"},
        {"org_id": "org_nobody"},
        {"day": "2026-06-15"},
    ],
    ids=["half a range", "backwards", "too long", "no dates", "no id", "unknown"],
)
def test_a_job_that_makes_no_sense_fails_at_once_and_says_why(machine: Machine, asked: dict[str, str]) -> None:
    failed = machine.run(asked)
    assert (failed["status"], failed["error"]) == ("FAILED", "InvalidRequest")
    assert next(iter(asked)) in failed["cause"] or "input" in failed["cause"] or "until" in failed["cause"]
    assert len(machine.called) == 1


@contextmanager
def held_up(superuser: str, day: date) -> Iterator[None]:
    """Whoever adds up this day waits in the middle of it, from the start of the block to its end."""
    with psycopg.connect(superuser, autocommit=True) as held, psycopg.connect(superuser, autocommit=True) as other:
        held.execute("SELECT pg_advisory_lock(1)")
        other.execute(
            "CREATE OR REPLACE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN PERFORM pg_advisory_xact_lock(1); RETURN NEW; END $$"
        )
        other.execute(
            f"CREATE TRIGGER held_up BEFORE INSERT ON usage_daily FOR EACH ROW "
            f"WHEN (NEW.day = '{day}') EXECUTE FUNCTION wait()".encode()
        )
        yield
        held.execute("SELECT pg_advisory_unlock(1)")
        # Only once the transaction that waited has ended.
        other.execute("DROP TRIGGER held_up ON usage_daily")


def somebody_waits(superuser: str) -> bool:
    with psycopg.connect(superuser, autocommit=True) as connection:
        found = connection.execute("SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
        return found.fetchone() is not None


def test_an_aggregation_killed_again_and_again_comes_to_the_same(
    org: Caller, services: Services, database: str
) -> None:
    expected = {(NOON - timedelta(days=n)).date(): 5 * n + 10 for n in reversed(range(20))}
    with db.tenant(org) as tx:
        for n in range(20):
            record(tx, org, [event_of(NOON - timedelta(days=n, minutes=minute), n + minute) for minute in range(5)])
        as_of = days.watermark(tx).now
    event = {"org_id": str(org.org_id), "as_of": as_of.isoformat(), "since": None, "until": None}
    superuser = services.superuser_url(database)
    for days_until_killed in (0, 1, 12, 19):
        with (
            held_up(superuser, list(expected)[days_until_killed]),
            subprocess.Popen([sys.executable, "-m", aggregating.__name__, json.dumps(event)]) as process,
        ):
            until(lambda: somebody_waits(superuser), "the day to be killed on")
            process.kill()
        assert list(added_up(org).items()) == list(expected.items())[:days_until_killed]
        with db.tenant(org) as tx:
            assert days.watermark(tx).added_until is None
    aggregate_org.handler(event, Context())
    assert added_up(org) == expected
    with db.tenant(org) as tx:
        assert days.watermark(tx).added_until == as_of


def test_what_a_job_hands_on_stays_far_below_what_a_state_may(org: Caller) -> None:
    orgs = [ids.new() for _ in range(aggregation.PAGE)]
    results = [{"org_id": str(each), "failed": True, "error": "X" * 64} for each in orgs]
    job = Job.read({"orgs": [str(each) for each in orgs], "results": results, "as_of": "2026-06-15T00:00:00Z"})
    assert len(json.dumps(job.written())) < 256 * 1024 / 4
    with db.anonymous() as tx:
        after = aggregation.following(tx, job)
    assert (after.orgs_failed, len(after.first_failed), after.next) == (aggregation.PAGE, 20, "conclude")
    with pytest.raises(Exception, match=rf"{aggregation.PAGE} orgs .*, …\."):
        aggregation.conclude(after)
