"""Days of usage on real Postgres: they sum to the range in every time zone, and are right whenever they are read."""

from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.kernel import db, ids
from shared.kernel.caller import Caller
from shared.kernel.errors import InvalidRequest
from shared.orgs import service as orgs
from shared.usage import days, days_store
from shared.usage.days_model import DayOfUsage, Dimension, TooMuchUsage, UnknownTimeZone, recorded_since
from shared.usage.model import NewEvent, UsageKind
from tests.integration.usage.metered import BEFORE, add_up, event_of, forge, record, used

# Where clocks go forward and back by an hour, by half an hour, never; where a day was left out (Apia, 2011); where the
# change is at midnight, which is skipped (Beirut) or comes twice (Havana).
CHANGES = {
    "UTC": [datetime(2026, 3, 1, tzinfo=UTC)],
    "Europe/Berlin": [datetime(2026, 3, 29, 1, tzinfo=UTC), datetime(2026, 10, 25, 1, tzinfo=UTC)],
    "America/New_York": [datetime(2026, 3, 8, 7, tzinfo=UTC), datetime(2026, 11, 1, 6, tzinfo=UTC)],
    "Australia/Lord_Howe": [datetime(2026, 4, 4, 15, tzinfo=UTC), datetime(2026, 10, 3, 15, 30, tzinfo=UTC)],
    "Asia/Kolkata": [datetime(2026, 6, 14, 18, 30, tzinfo=UTC)],
    "Pacific/Apia": [datetime(2011, 12, 30, 10, tzinfo=UTC), datetime(2020, 9, 26, 14, tzinfo=UTC)],
    "Asia/Beirut": [datetime(2026, 3, 28, 22, tzinfo=UTC), datetime(2026, 10, 24, 21, tzinfo=UTC)],
    "America/Havana": [datetime(2026, 3, 8, 5, tzinfo=UTC), datetime(2026, 11, 1, 5, tzinfo=UTC)],
}
ALL_DIMENSIONS = frozenset(Dimension)
FIELDS = {Dimension.AGENT: "agent_id", Dimension.PERSON: "person_id", Dimension.KEY: "key_id", Dimension.MODEL: "model"}

NOON = datetime(2026, 6, 15, 12, tzinfo=UTC)

type Drawn = tuple[datetime, UsageKind, int, str, str]
type Group = tuple[str, ...]
type Totals = dict[tuple[date, UsageKind, Group], int]

MOMENTS = st.sampled_from(list(CHANGES)).flatmap(
    lambda zone: st.builds(
        lambda change, away: change + away,
        st.sampled_from(CHANGES[zone]),
        st.one_of(
            st.timedeltas(timedelta(days=-2), timedelta(days=2)),
            st.integers(-50, 50).map(lambda halves: timedelta(minutes=30) * halves),
            st.sampled_from([timedelta(0), timedelta(microseconds=-1), timedelta(microseconds=1)]),
        ),
    )
)
EVENTS = st.lists(
    st.tuples(
        MOMENTS,
        st.sampled_from([UsageKind.TOKENS_INPUT, UsageKind.SANDBOX_SECONDS]),
        st.integers(0, 1_000),
        st.sampled_from(["", "m1", "m2"]),
        st.sampled_from(["", "agent_1"]),
    ),
    max_size=12,
)
GROUPS = st.sampled_from([frozenset(), frozenset({Dimension.MODEL}), frozenset({Dimension.MODEL, Dimension.AGENT})])


def read(
    caller: Caller,
    since: date,
    until: date,
    zone: str = "UTC",
    group_by: frozenset[Dimension] = frozenset(),
    kind: UsageKind | None = None,
) -> list[DayOfUsage]:
    with db.tenant(caller) as tx:
        return days.daily(tx, since, until, zone, group_by, kind)


def totals(found: Iterable[DayOfUsage], group_by: frozenset[Dimension]) -> tuple[Totals, Totals]:
    """Return quantities and numbers of events of each day, kind and group."""
    quantities: Totals = {}
    events: Totals = {}
    for row in found:
        key = (row.day, row.kind, tuple(getattr(row, FIELDS[each]) for each in sorted(group_by)))
        assert key not in events
        quantities[key], events[key] = row.quantity, row.events
    return dict(quantities), dict(events)


def expected(ledger: Iterable[NewEvent], zone: str, group_by: frozenset[Dimension]) -> tuple[Totals, Totals]:
    """Say in Python what each day comes to: an event is in the day that `zoneinfo` puts it into."""
    quantities: Counter[tuple[date, UsageKind, Group]] = Counter()
    events: Counter[tuple[date, UsageKind, Group]] = Counter()
    for event in ledger:
        group = tuple(event.dimensions.get(FIELDS[each], "") for each in sorted(group_by))
        key = (event.occurred_at.astimezone(ZoneInfo(zone)).date(), event.kind, group)
        quantities[key] += event.quantity
        events[key] += 1
    return dict(quantities), dict(events)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(early=EVENTS, late=EVENTS, group_by=GROUPS, added=st.booleans())
def test_the_days_sum_to_the_range_in_every_time_zone(
    database: str,
    early: list[Drawn],
    late: list[Drawn],
    group_by: frozenset[Dimension],
    added: bool,
) -> None:
    org = Caller.system(ids.new())
    with db.tenant(org) as tx:
        orgs.create_org(tx, org, org_id=org.org_id, name="Property")
    everything: list[NewEvent] = []
    for batch, ago in ((early, BEFORE), (late, timedelta(0))):
        events = [_drawn(*each, ago=ago) for each in batch]
        if events:
            with db.tenant(org) as tx:
                record(tx, org, events)
        everything.extend(events)
        if added and batch is early:
            add_up(org)
    for zone in CHANGES:
        wanted = expected(everything, zone, group_by)
        # Whole ranges, and the first day and the last alone: whatever is next to them in another zone is not in them.
        there = sorted({day for day, _, _ in wanted[0]})
        ranges = [(date(2026, 1, 1), date(2026, 12, 31)), (date(2011, 12, 30), date(2012, 1, 31))]
        for since, until in ranges + [(day, day) for day in {*there[:1], *there[-1:]}]:
            found = totals(read(org, since, until, zone, group_by), group_by)
            inside = tuple({key: n for key, n in each.items() if since <= key[0] <= until} for each in wanted)
            assert found == inside, zone


def _drawn(at: datetime, kind: UsageKind, quantity: int, model: str, agent: str, *, ago: timedelta) -> NewEvent:
    event = event_of(at, quantity, kind, ago=ago)
    return replace(event, dimensions={name: value for name, value in (("model", model), ("agent_id", agent)) if value})


def test_the_days_of_the_property_go_through_what_was_added_up(org: Caller) -> None:
    used(org, NOON, 7)
    assert add_up(org) == [NOON.date()]
    forge(org, NOON.date(), quantity=1_000)
    assert [row.quantity for row in read(org, NOON.date(), NOON.date())] == [1_000]
    assert [row.quantity for row in read(org, NOON.date(), NOON.date(), "Asia/Kolkata")] == [7]


def test_an_event_that_comes_late_is_in_its_day_at_once_and_no_other_day_is_read_anew(org: Caller) -> None:
    june = date(2026, 6, 1), date(2026, 6, 30)
    used(org, NOON, 7)
    used(org, NOON + timedelta(days=1), 100)
    add_up(org)
    forge(org, date(2026, 6, 16), quantity=1_000)
    used(org, NOON - timedelta(hours=1), 5, ago=timedelta(0))
    for touched in ([date(2026, 6, 15)], [date(2026, 6, 15)]):
        assert [(row.day.day, row.quantity) for row in read(org, *june)] == [(15, 12), (16, 1_000)]
        assert add_up(org) == touched, "for a while an event counts as new: another may have come with it"


def test_an_event_recorded_but_not_yet_committed_as_its_day_was_added_up_is_found_afterwards(org: Caller) -> None:
    used(org, NOON, 7)
    with db.tenant(org) as slow:
        record(slow, org, [event_of(NOON, 5, ago=timedelta(minutes=14))])
        assert add_up(org) == [NOON.date()]
        assert [row.quantity for row in read(org, NOON.date(), NOON.date())] == [7]
    assert [row.quantity for row in read(org, NOON.date(), NOON.date())] == [12]
    assert add_up(org) == [NOON.date()]
    with db.tenant(org) as tx:
        [row] = tx.execute("SELECT quantity::int AS quantity FROM usage_daily")
    assert row["quantity"] == 12


def test_a_day_added_up_again_and_again_and_by_many_at_once_comes_to_the_same(org: Caller) -> None:
    for n in range(20):
        used(org, NOON + timedelta(minutes=n), n, cost=n, model=f"m{n % 3}")

    def once(n: int) -> int:
        if n % 2:
            used(org, NOON + timedelta(hours=1, minutes=n), 1)
        with db.tenant(org) as tx:
            return days.aggregate(tx, org, NOON.date())

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(once, range(32))) <= {3, 4}
    found = read(org, NOON.date(), NOON.date(), group_by=frozenset({Dimension.MODEL}))
    assert {row.model: (row.quantity, row.events) for row in found} == {
        "": (16, 16),
        "m0": (sum(range(0, 20, 3)), 7),
        "m1": (sum(range(1, 20, 3)), 7),
        "m2": (sum(range(2, 20, 3)), 6),
    }


def test_a_day_whose_adding_up_is_interrupted_is_as_it_was(org: Caller) -> None:
    class Killed(Exception):
        pass

    used(org, NOON, 7)
    add_up(org)
    used(org, NOON, 5, ago=timedelta(0))

    def add_up_and_be_killed() -> None:
        with db.tenant(org) as tx:
            days.aggregate(tx, org, NOON.date())
            raise Killed

    with pytest.raises(Killed):
        add_up_and_be_killed()
    with db.tenant(org) as tx:
        [row] = tx.execute("SELECT quantity::int AS quantity FROM usage_daily")
        assert row["quantity"] == 7
        assert days.days_to_add(tx, as_of=days.watermark(tx).now) == [NOON.date()]


def test_rows_of_a_day_that_the_ledger_does_not_know_are_gone_once_it_is_added_up(org: Caller) -> None:
    day = date(2026, 6, 15)
    with db.tenant(org) as tx:
        tx.execute(
            "INSERT INTO usage_daily (org_id, day, kind, quantity, cost_microusd, events) VALUES (%s, %s, %s, 1, 1, 1)",
            (org.org_id, day, "tokens_input"),
        )
        assert days.days_to_add(tx, as_of=days.watermark(tx).now, between=(day, day)) == [day]
        assert days.aggregate(tx, org, day) == 0
    assert read(org, day, day) == []


def test_what_a_job_did_before_it_was_killed_it_does_not_do_again(org: Caller) -> None:
    for n in range(3):
        used(org, NOON + timedelta(days=n))
    with db.tenant(org) as tx:
        as_of = days.watermark(tx).now
    with db.tenant(org) as tx:
        days.aggregate(tx, org, date(2026, 6, 16))
    with db.tenant(org) as tx:
        assert days.days_to_add(tx, as_of=as_of) == [date(2026, 6, 15), date(2026, 6, 17)]
        between = (date(2026, 6, 16), date(2026, 6, 30))
        assert days.days_to_add(tx, as_of=as_of, between=between) == [date(2026, 6, 17)]
        assert days.days_to_add(tx, as_of=as_of + timedelta(hours=1), between=between)[0] == date(2026, 6, 16)


def test_a_watermark_is_never_set_back(org: Caller) -> None:
    now = datetime.now(UTC)
    for moment in (now, now - timedelta(days=1)):
        with db.tenant(org) as tx:
            days.caught_up(tx, org, as_of=moment)
    with db.tenant(org) as tx:
        assert days.watermark(tx).added_until == now


def test_only_tenants_with_something_to_add_up_are_listed_page_by_page(org: Caller, rival: Caller) -> None:
    def listed(**asked: object) -> list[object]:
        with db.anonymous() as tx:
            return list(days.orgs_to_aggregate(tx, **{"amount": 10} | asked))  # type: ignore[arg-type]

    first, second = sorted((org, rival), key=lambda caller: caller.org_id)
    assert listed() == []
    used(org, NOON)
    used(rival, NOON)
    assert listed() == [first.org_id, second.org_id]
    assert listed(amount=1) == [first.org_id]
    assert listed(after=first.org_id) == [second.org_id]
    add_up(first)
    assert listed() == [second.org_id]
    used(first, NOON, ago=timedelta(minutes=5))
    add_up(first)
    assert listed() == [first.org_id, second.org_id], "something may have been recorded as it was added up"
    june, july = (date(2026, 6, 15), date(2026, 6, 15)), (date(2026, 6, 16), date(2026, 7, 31))
    assert (len(listed(between=june)), listed(between=july)) == (2, [])


def test_another_tenants_days_do_not_exist(org: Caller, rival: Caller) -> None:
    used(org, NOON, 7)
    add_up(org)
    assert add_up(rival) == []
    for zone in ("UTC", "Europe/Berlin"):
        assert read(rival, NOON.date(), NOON.date(), zone) == []
    with db.tenant(rival) as tx:
        assert days.aggregate(tx, rival, NOON.date()) == 0
    assert [row.quantity for row in read(org, NOON.date(), NOON.date())] == [7]


def test_sums_beyond_a_bigint_are_right(org: Caller) -> None:
    most = 2**63 - 1
    for _ in range(3):
        used(org, NOON, most, cost=most)
    for _ in range(2):
        [row] = read(org, NOON.date(), NOON.date())
        assert (row.quantity, row.cost_microusd, row.events) == (3 * most, 3 * most, 3)
        add_up(org)


@pytest.mark.parametrize(
    "zone", ["Europe/Atlantis", "X3", "EST5EDT4,M3.2.0,M11.1.0", "+02:00", "posix/UTC", "", "europe/berlin", "a" * 65]
)
def test_a_time_zone_that_is_none_is_refused(org: Caller, zone: str) -> None:
    with pytest.raises(UnknownTimeZone):
        read(org, date(2026, 6, 1), date(2026, 6, 2), zone)


@pytest.mark.parametrize(
    ("since", "until"),
    [
        (date(2026, 6, 2), date(2026, 6, 1)),
        (date(2025, 1, 1), date(2026, 6, 1)),
        (date(1999, 12, 31), date(2000, 1, 1)),
        (date(2999, 12, 31), date(3000, 1, 1)),
    ],
    ids=["backwards", "too long", "too early", "too late"],
)
def test_an_impossible_range_of_days_is_refused(org: Caller, since: date, until: date) -> None:
    with pytest.raises(InvalidRequest, match=r"since|until"):
        read(org, since, until)


def test_too_many_rows_are_refused_instead_of_cut_off(org: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(days, "MAX_ROWS", 3)
    for n in range(4):
        used(org, NOON, model=f"m{n}")
    for zone in ("UTC", "Asia/Kolkata"):
        with pytest.raises(TooMuchUsage):
            read(org, NOON.date(), NOON.date(), zone, frozenset({Dimension.MODEL}))
        assert [row.events for row in read(org, NOON.date(), NOON.date(), zone)] == [4]


def test_what_only_reads_cannot_write(org: Caller) -> None:
    with db.reading(org) as tx:
        assert days.daily(tx, date(2026, 6, 1), date(2026, 6, 2)) == []
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            days.aggregate(tx, org, date(2026, 6, 1))


def test_newly_recorded_events_of_a_tenant_are_found_by_its_primary_key(org: Caller, rival: Caller) -> None:
    with db.tenant(org) as tx:
        record(tx, org, [event_of(NOON + timedelta(minutes=n)) for n in range(2_000)])
    add_up(org)
    with db.tenant(org) as tx:
        until = days.watermark(tx).added_until
        assert until
        from_id = recorded_since(until)
        plan = tx.execute(b"EXPLAIN " + days_store.TOUCHED_DAYS.encode(), {"from_id": from_id}).fetchall()
    text = "\n".join(row["QUERY PLAN"] for row in plan)
    assert "_pkey" in text
    assert "id >=" in text
    assert "Filter: (id" not in text


def test_the_ledger_is_left_alone_when_no_day_was_touched(org: Caller) -> None:
    with db.tenant(org) as tx:
        record(tx, org, [event_of(NOON + timedelta(minutes=n)) for n in range(2_000)])
    add_up(org)
    with db.tenant(org) as tx:
        until = days.watermark(tx).added_until
        assert until
        asked: dict[str, object] = {"since": NOON.date(), "until": date(2026, 6, 30), "kind": None, "limit": 10}
        asked |= {"begins": NOON - timedelta(hours=12), "ends": NOON + timedelta(days=15)}
        asked |= {"from_id": recorded_since(until)} | {f"by_{each}": False for each in Dimension}
        plan = tx.execute(b"EXPLAIN (ANALYZE, TIMING OFF) " + days_store.DAYS_IN_UTC.encode(), asked)
        looked_at = [row["QUERY PLAN"] for row in plan if "on usage_events" in row["QUERY PLAN"]]
    assert looked_at
    assert all("never executed" in line or "actual rows=0" in line for line in looked_at)
