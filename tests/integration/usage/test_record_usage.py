"""Usage from the queue: counted once and charged once, however it is delivered and whatever dies meanwhile."""

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, LiteralString

import psycopg

from shared.kernel import clock, db, ids
from shared.kernel.caller import Caller
from shared.orgs import service as orgs
from tests.integration.usage.messages import counted, deliver, event, furnished, message, records
from tests.services import Services
from tests.unit.usage.malformed import MALFORMED

ROOT = Path(__file__).resolve().parents[3]
COST = 250_000
WAITING: LiteralString = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = %s"
CONNECTED: LiteralString = (
    "SELECT count(*) FROM pg_stat_activity WHERE usename = 'runyard_app' AND datname = %s AND backend_type LIKE 'cl%%'"
)


def test_a_message_is_priced_counted_and_charged(org: Caller) -> None:
    assert deliver(message(furnished(org).org_id, [event("a"), event("b")])) == set()
    assert counted(org) == (2_000_000, 2 * COST)


def test_a_message_delivered_twice_counts_once(org: Caller) -> None:
    body = message(furnished(org).org_id, [event("a"), event("b")])
    assert deliver(body, body) == set()
    assert deliver(body) == set()
    assert counted(org) == (2_000_000, 2 * COST)


def test_an_event_in_two_messages_and_twice_in_one_counts_once(org: Caller) -> None:
    furnished(org)
    first = message(org.org_id, [event("a"), event("a"), event("b")])
    second = message(org.org_id, [event("c"), event("b"), event("a", kind="tokens_output")])
    assert deliver(first, second) == set()
    # Output costs eight times as much as input.
    assert counted(org) == (4_000_000, (3 + 8) * COST)


def test_what_comes_in_eight_threads_at_once_counts_once(org: Caller) -> None:
    furnished(org)
    events = [event(f"s{n}") for n in range(100)]

    def batch(number: int) -> set[int]:
        chosen = random.Random(number).sample(events, 60)
        return deliver(message(org.org_id, chosen), message(org.org_id, events))

    with ThreadPoolExecutor(8) as pool:
        assert set().union(*pool.map(batch, range(24))) == set()
    assert counted(org) == (100 * 1_000_000, 100 * COST)


def test_another_orgs_same_source_counts_for_itself(org: Caller, rival: Caller) -> None:
    assert deliver(message(furnished(org).org_id, [event("a")]), message(rival.org_id, [event("a", 500_000)])) == set()
    assert counted(org) == (1_000_000, COST)
    assert counted(rival) == (500_000, COST // 2)


def test_usage_beyond_the_credits_is_counted_and_owed(rival: Caller) -> None:
    assert deliver(message(rival.org_id, [event("a", 1_000_000_000)])) == set()
    assert counted(rival) == (1_000_000_000, 1_000 * COST)


def test_a_message_that_failed_is_counted_once_it_succeeds(org: Caller) -> None:
    org_id = ids.new()
    body = message(org_id, [event("a")])
    # The org isn't there yet: as when the message overtook it.
    assert deliver(body, message(furnished(org).org_id, [event("a")])) == {0}
    system = Caller.system(org_id)
    with db.tenant(system) as tx:
        orgs.create_org(tx, system, org_id=org_id, name="Late")
    assert deliver(body) == set()
    assert deliver(body) == set()
    assert (counted(system), counted(org)) == ((1_000_000, COST), (1_000_000, COST))


def test_without_postgres_the_batch_stays_on_the_queue(org: Caller, services: Services) -> None:
    body = message(furnished(org).org_id, [event("a")])
    services.postgres.kill()
    try:
        assert deliver(body, body) == {0, 1}
    finally:
        services.postgres.start()
    assert deliver(body, body) == set()
    assert counted(org) == (1_000_000, COST)


def test_bad_messages_are_left_to_the_dead_letters_and_stop_no_other(org: Caller, logged: Callable[[], str]) -> None:
    furnished(org)
    bad = [
        *(make(org.org_id) for make in MALFORMED.values()),
        message(ids.new(), [event("bad")]),
        message(org.org_id, [event("bad", dimensions={"model": "nobody's"})]),
        message(org.org_id, [event("bad", dimensions={})]),
    ]
    for number, body in enumerate(bad):
        good = message(org.org_id, [event(f"good:{number}", 4)])
        assert deliver(good, body, good) == {1}, body[:200]
    assert counted(org) == (4 * len(bad), len(bad))
    for code in ("bad_usage_message", "not_found", "model_not_priced", "not_priceable"):
        assert code in logged()


def test_a_bad_event_keeps_its_whole_message_from_being_counted(org: Caller) -> None:
    furnished(org)
    assert deliver(message(org.org_id, [event("a"), event("b", dimensions={"model": "nobody's"})])) == {0}
    assert counted(org) == (0, 0)
    # Mended and sent again, all of it counts.
    assert deliver(message(org.org_id, [event("a"), event("b")])) == set()
    assert counted(org) == (2_000_000, 2 * COST)


def test_a_batch_of_bad_messages_alone_is_reported_and_not_raised(org: Caller, logged: Callable[[], str]) -> None:
    assert deliver("{", message(org.org_id, [])) == {0, 1}
    assert "bad_usage_message" in logged()


def test_what_is_at_the_edge_of_the_bounds_is_taken(org: Caller) -> None:
    late = event("a", occurred_at=(clock.now() - timedelta(days=35) + timedelta(minutes=1)).isoformat())
    ahead = event("b", 0, occurred_at=(clock.now() + timedelta(minutes=4)).isoformat())
    big = event("x" * 200, 10**16, "storage_byte_hours", dimensions={f"d{n}": "é" * 200 for n in range(16)})
    assert deliver(message(org.org_id, [late, ahead, big, *(event(f"m{n}", 0) for n in range(497))])) == set()
    assert counted(org)[0] == 1_000_000 + 10**16


# --- killed -------------------------------------------------------------------------------------------------------


@contextmanager
def worker(batches: Path) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "tests.integration.usage.dying_worker", str(batches)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=os.environ) as run:
        try:
            yield run
        finally:
            run.kill()


def wait_until(looker: psycopg.Connection[Any], statement: LiteralString, database: str, wanted: int) -> None:
    deadline = time.monotonic() + 30
    while True:
        row = looker.execute(statement, (database,)).fetchone()
        assert row is not None
        if row[0] == wanted:
            return
        assert time.monotonic() < deadline, row
        time.sleep(0.02)


def test_a_worker_killed_between_the_claims_and_the_charge_has_counted_nothing(
    org: Caller, services: Services, database: str, tmp_path: Path
) -> None:
    body = message(furnished(org).org_id, [event(f"s{n}") for n in range(50)])
    batches = tmp_path / "batches.json"
    batches.write_text(json.dumps([records(body)]))
    url = services.superuser_url(database)
    db.close()
    with psycopg.connect(url) as blocker, psycopg.connect(url, autocommit=True) as looker, worker(batches) as run:
        blocker.execute("SELECT 1 FROM credit_accounts FOR UPDATE")
        # Its claims and events are written, it waits to charge.
        wait_until(looker, WAITING, database, 1)
        run.kill()
        run.wait()
        blocker.rollback()
        wait_until(looker, CONNECTED, database, 0)
    assert counted(org) == (0, 0)
    assert deliver(body) == set()
    assert deliver(body) == set()
    assert counted(org) == (50_000_000, 50 * COST)


def test_workers_killed_anywhere_leave_sums_exact(org: Caller, tmp_path: Path) -> None:
    furnished(org)
    bodies = [message(org.org_id, [event(f"{m}:{n}", 1_000 + n) for n in range(200)]) for m in range(20)]
    # Every tenth message comes twice, and the neighbours share events.
    bodies += bodies[::10] + [message(org.org_id, [event(f"{m}:{n}", 1_000 + n) for n in range(50)]) for m in range(20)]
    batches = tmp_path / "batches.json"
    batches.write_text(json.dumps([records(*bodies[n : n + 10]) for n in range(0, len(bodies), 10)]))
    seconds = random.Random(4)
    for _ in range(2):
        with worker(batches) as one, worker(batches) as other:
            # Both are at it before the first of them is killed.
            for run in (one, other):
                assert run.stderr is not None
                run.stderr.readline()
            time.sleep(seconds.uniform(0, 0.1))
            one.kill()
            time.sleep(seconds.uniform(0, 0.1))
            other.kill()
    for n in range(0, len(bodies), 10):
        assert deliver(*bodies[n : n + 10]) == set()
    quantity = 20 * sum(range(1_000, 1_200))
    # A quarter of a micro-dollar each, rounded half to even event by event.
    cost = 20 * sum(round(each / 4) for each in range(1_000, 1_200))
    assert counted(org) == (quantity, cost)
