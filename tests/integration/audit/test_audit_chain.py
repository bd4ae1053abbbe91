"""The audit trail's chain, on a real database: whatever is done to the trail behind its back, it shows."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from io import StringIO
from typing import Any, LiteralString
from uuid import UUID

import psycopg
import pytest
from rich.console import Console

from functions.schedules import verify_audit
from local.auditing import verify as audit_verify
from local.errors import HomeError
from local.terminal import Terminal
from shared.audit import service as audit
from shared.audit.model import GENESIS, FaultKind, TrailBroken
from shared.kernel import db, ids, settings
from shared.kernel.caller import Caller
from tests.api_gateway import Context
from tests.services import Services

_BACKDATE: LiteralString = """
    INSERT INTO audit_events (id, org_id, actor, action, resource_type, resource_id, request_id, created_at)
    SELECT gen_random_uuid(), org_id, actor, action, resource_type, resource_id, request_id, '2020-01-01'
      FROM audit_events
"""
type Superuser = psycopg.Connection[tuple[Any, ...]]


@pytest.fixture
def superuser(services: Services, database: str) -> Iterator[Superuser]:
    """Somebody who may do anything to the database."""
    with psycopg.connect(services.superuser_url(database), autocommit=True) as connection:
        yield connection


@pytest.fixture
def trail(org: Caller) -> list[str]:
    """The ids of the tenant's events in the order of their chain: two of the fixture, and eight more."""
    for number in range(8):
        write(org, f"thing.do_{number}")
    with db.tenant(org) as tx:
        return [str(event.id) for event in audit.events_after(tx, 0)]


def write(caller: Caller, action: str, **facts: Any) -> None:
    with db.tenant(caller) as tx:
        audit.record(tx, caller, action=action, resource_type="thing", resource_id="thing_1", **facts)


def faults(caller: Caller) -> list[tuple[FaultKind, str | None, int | None]]:
    with db.tenant(caller) as tx:
        found = audit.verify(tx).faults
    return [(fault.kind, None if fault.event_id is None else str(fault.event_id), fault.seq) for fault in found]


def test_a_trail_that_nobody_touched_is_as_it_was_written(org: Caller, rival: Caller, trail: list[str]) -> None:
    with db.tenant(org) as tx:
        found = audit.verify(tx)
        last = tx.execute("SELECT seq, hash FROM audit_chain ORDER BY seq DESC LIMIT 1").fetchone()
        first = tx.execute("SELECT previous FROM audit_chain WHERE seq = 1").fetchone()
    assert (found.events, found.faults) == (10, ())
    assert last == {"seq": 10, "hash": found.head.hash}
    assert first == {"previous": GENESIS}
    assert found.head.seq == 10
    assert faults(rival) == []


@pytest.mark.parametrize("column", ["actor", "actor_ip", "action", "resource_type", "resource_id", "request_id"])
def test_an_edited_event_is_named(org: Caller, superuser: Superuser, trail: list[str], column: LiteralString) -> None:
    superuser.execute(f"UPDATE audit_events SET {column} = 'somebody else' WHERE id = %s", (trail[4],))
    assert faults(org) == [(FaultKind.EDITED, trail[4], 5)]


@pytest.mark.parametrize("change", ["old = '{}'", "new = '{\"a\": 1}'", "new = 'null'"])
def test_an_event_whose_facts_were_edited_is_named(
    org: Caller, superuser: Superuser, trail: list[str], change: LiteralString
) -> None:
    superuser.execute(f"UPDATE audit_events SET {change} WHERE id = %s", (trail[4],))
    assert faults(org) == [(FaultKind.EDITED, trail[4], 5)]


@pytest.mark.parametrize("by", [timedelta(microseconds=1), timedelta(days=40)])
def test_an_event_whose_time_was_edited_is_named(
    org: Caller, superuser: Superuser, trail: list[str], by: timedelta
) -> None:
    # Else the database refuses to move it to another month.
    superuser.execute("SET session_replication_role = replica")
    superuser.execute("UPDATE audit_events SET created_at = created_at - %s WHERE id = %s", (by, trail[4]))
    assert faults(org) == [(FaultKind.EDITED, trail[4], 5)]


def test_a_removed_event_is_named(org: Caller, superuser: Superuser, trail: list[str]) -> None:
    superuser.execute("DELETE FROM audit_events WHERE id = ANY(%s)", ([trail[0], trail[6], trail[9]],))
    assert faults(org) == [
        (FaultKind.REMOVED, trail[0], 1),
        (FaultKind.REMOVED, trail[6], 7),
        (FaultKind.REMOVED, trail[9], 10),
    ]


def test_an_entry_removed_from_the_chain_is_named(org: Caller, superuser: Superuser, trail: list[str]) -> None:
    superuser.execute("DELETE FROM audit_chain WHERE event_id = ANY(%s)", (trail[3:5],))
    assert faults(org) == [
        (FaultKind.ENTRIES_REMOVED, None, 6),
        (FaultKind.UNCHAINED, trail[3], None),
        (FaultKind.UNCHAINED, trail[4], None),
    ]
    with db.tenant(org) as tx:
        assert str(audit.verify(tx).faults[0]) == "entries 4 to 5 of the chain were removed"


def test_an_event_removed_with_its_entry_leaves_a_gap(org: Caller, superuser: Superuser, trail: list[str]) -> None:
    superuser.execute("DELETE FROM audit_chain WHERE event_id = %s", (trail[0],))
    superuser.execute("DELETE FROM audit_events WHERE id = %s", (trail[0],))
    assert faults(org) == [(FaultKind.ENTRIES_REMOVED, None, 2)]


def test_closing_the_gap_breaks_the_links(org: Caller, superuser: Superuser, trail: list[str]) -> None:
    superuser.execute("DELETE FROM audit_chain WHERE event_id = %s", (trail[8],))
    superuser.execute("DELETE FROM audit_events WHERE id = %s", (trail[8],))
    superuser.execute("UPDATE audit_chain SET seq = 9 WHERE event_id = %s", (trail[9],))
    assert faults(org) == [(FaultKind.BROKEN_LINK, None, 9), (FaultKind.EDITED, trail[9], 9)]


def test_an_event_edited_together_with_its_entry_breaks_the_next_link(
    org: Caller, superuser: Superuser, trail: list[str]
) -> None:
    superuser.execute("UPDATE audit_events SET actor = 'key_innocent' WHERE id = %s", (trail[4],))
    superuser.execute(
        "UPDATE audit_chain link SET hash = audit_hash(link.previous, link.seq, event) FROM audit_events event"
        " WHERE event.id = link.event_id AND event.id = %s",
        (trail[4],),
    )
    assert faults(org) == [(FaultKind.BROKEN_LINK, None, 6)]


def test_an_event_put_in_behind_the_chains_back_is_named(org: Caller, superuser: Superuser, trail: list[str]) -> None:
    forged = str(ids.new())
    superuser.execute("SET session_replication_role = replica")
    for created_at in ("2026-01-01T00:00:00Z", "2200-01-01T00:00:00Z"):
        superuser.execute(
            "INSERT INTO audit_events (id, org_id, actor, action, resource_type, resource_id, request_id, created_at)"
            " SELECT %s, org_id, actor, action, resource_type, resource_id, request_id, %s FROM audit_events"
            "  WHERE id = %s",
            (forged if created_at < "2100" else trail[2], created_at, trail[2]),
        )
    assert faults(org) == [(FaultKind.UNCHAINED, trail[2], None), (FaultKind.UNCHAINED, forged, None)]


def test_what_was_cut_off_at_the_end_shows_against_a_head_kept_elsewhere(
    org: Caller, superuser: Superuser, trail: list[str], logged: Callable[[], str]
) -> None:
    verify_audit.handler({}, Context())
    with db.tenant(org) as tx:
        before = audit.verify(tx).head
    assert f"'seq': {before.seq}" in logged()
    assert before.hash.hex() in logged()
    superuser.execute("DELETE FROM audit_chain WHERE event_id = %s", (trail[9],))
    superuser.execute("DELETE FROM audit_events WHERE id = %s", (trail[9],))
    with db.tenant(org) as tx:
        after = audit.verify(tx)
    assert after.faults == ()
    assert after.head.seq == before.seq - 1


def test_many_writers_at_once_make_one_chain(org: Caller, rival: Caller) -> None:
    def work(number: int) -> None:
        caller = (org, rival)[number % 2]
        for round_ in range(10):
            with db.tenant(caller) as tx:
                for part in range(3):
                    audit.record(tx, caller, action=f"w{number}.r{round_}", resource_type="t", resource_id=str(part))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    for caller in (org, rival):
        with db.tenant(caller) as tx:
            found = audit.verify(tx)
            written = [(event.action, event.resource_id) for event in audit.events_after(tx, 2)]
        assert (found.events, found.head.seq, found.faults) == (122, 122, ())
        # What one transaction wrote stands together and in its order: the chain is that of the commits.
        for start in range(0, len(written), 3):
            assert written[start : start + 3] == [(written[start][0], str(part)) for part in range(3)]


def test_what_is_rolled_back_leaves_nothing_in_trail_or_chain(org: Caller) -> None:
    def write_and_fail() -> None:
        with db.tenant(org) as tx:
            audit.record(tx, org, action="thing.do", resource_type="thing", resource_id="x")
            tx.execute("SELECT 1 / 0")

    with pytest.raises(psycopg.errors.DivisionByZero):
        write_and_fail()
    with db.tenant(org) as tx:
        assert audit.verify(tx).head.seq == 2


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit_events SET actor = 'x'",
        "DELETE FROM audit_events",
        "TRUNCATE audit_events",
        _BACKDATE,
        "INSERT INTO audit_chain SELECT * FROM audit_chain",
        "UPDATE audit_chain SET seq = seq + 1",
        "DELETE FROM audit_chain",
        "DELETE FROM audit_events_default",
        "SELECT make_months('audit_events', 3)",
        "SET session_replication_role = replica",
        "ALTER TABLE audit_events DISABLE TRIGGER audit_chain_append",
    ],
)
def test_the_application_can_only_add_to_the_trail_and_not_say_when(org: Caller, statement: LiteralString) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege), db.tenant(org) as tx:
        tx.execute(statement)


def test_the_nightly_walk_fails_for_a_broken_trail_and_still_walks_over_the_others(
    org: Caller, rival: Caller, superuser: Superuser, trail: list[str], logged: Callable[[], str]
) -> None:
    assert verify_audit.handler({}, Context()) == {"events": 12}
    superuser.execute("DELETE FROM audit_events WHERE id = %s", (trail[4],))
    with pytest.raises(ExceptionGroup) as raised:
        verify_audit.handler({}, Context())
    assert raised.group_contains(TrailBroken)
    assert f"{ids.show('audit', UUID(trail[4]))} (entry 5) was removed" in logged()


def test_audit_verify_prints_one_line_or_names_every_offending_row(
    services: Services, database: str, org: Caller, rival: Caller, superuser: Superuser, trail: list[str]
) -> None:
    url = services.environment(database)["RUNYARD_DATABASE_URL"]

    def run() -> tuple[int, list[str]]:
        printed = StringIO()
        status = audit_verify(url, Terminal(Console(file=printed, soft_wrap=True)))
        return status, printed.getvalue().splitlines()

    assert run() == (0, ["audit: orgs=2 events=12 ok"])
    superuser.execute("UPDATE audit_events SET actor = 'x' WHERE id = %s", (trail[1],))
    superuser.execute("DELETE FROM audit_events WHERE id = %s", (trail[2],))
    named = f"audit: {ids.show('org', org.org_id)}: "
    edited, removed = (ids.show("audit", UUID(event_id)) for event_id in trail[1:3])
    assert run() == (
        1,
        [
            f"{named}{edited} (entry 2) was edited",
            f"{named}{removed} (entry 3) was removed",
            "audit: orgs=2 events=11 faults=2",
        ],
    )


def test_audit_verify_says_what_to_do_where_there_is_nothing_to_walk_over(
    services: Services, database: str, superuser: Superuser
) -> None:
    told, url = Terminal(Console(file=StringIO())), services.environment(database)["RUNYARD_DATABASE_URL"]
    settings.forget()
    with pytest.raises(HomeError, match="does not answer"):
        audit_verify("postgresql://runyard_app:x@127.0.0.1:9/none", told)
    superuser.execute("DROP FUNCTION every_org()")
    settings.forget()
    with pytest.raises(HomeError, match="older"):
        audit_verify(url, told)


def test_when_something_happened_is_the_databases_word(org: Caller) -> None:
    before = datetime.now(UTC) - timedelta(minutes=1)
    write(org, "thing.do")
    with db.tenant(org) as tx:
        *_, last = audit.events_after(tx, 0)
    assert before < last.created_at < datetime.now(UTC) + timedelta(minutes=1)
