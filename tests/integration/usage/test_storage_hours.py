"""Storage is metered by the hour: each hour once, missed ones too, and none before anything was stored."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from functions.schedules import meter_storage
from shared.billing import service as billing
from shared.kernel import clock, db
from shared.kernel.caller import Caller
from shared.kernel.pagination import Slice
from shared.quotas import service as quotas
from shared.quotas.plans import Resource
from shared.usage import service as usage
from shared.usage.model import UsageKind
from tests.api_gateway import Context

type At = Callable[[datetime], None]
HOUR = timedelta(hours=1)
# Five minutes after an hour's end, as the schedule has it.
FIVE_PAST = datetime(2026, 6, 15, 12, 5, tzinfo=UTC)
ELEVEN = datetime(2026, 6, 15, 11, tzinfo=UTC)
GB = 2**30


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> At:
    """`at(moment)`: the time it is from then on; five past twelve at first."""

    def hold(moment: datetime) -> None:
        monkeypatch.setattr(clock, "now", lambda: moment)

    hold(FIVE_PAST)
    return hold


def store(caller: Caller, amount: int, *, holder: str = "mem_1") -> None:
    with db.tenant(caller) as tx:
        quotas.set_limits(tx, caller, caller.org_id, quotas={Resource.STORAGE_BYTES: 2**50}, rates={})
        quotas.allocate(tx, caller.org_id, Resource.STORAGE_BYTES, holder=holder, amount=amount)


def delete(caller: Caller, *, holder: str = "mem_1") -> None:
    with db.tenant(caller) as tx:
        quotas.release(tx, caller.org_id, Resource.STORAGE_BYTES, holder=holder)


def meter() -> int:
    done: dict[str, int] = meter_storage.handler({}, Context())
    return done["hours"]


def metered(caller: Caller) -> dict[datetime, int]:
    """Return the byte-hours of each hour that is in the ledger."""
    with db.tenant(caller) as tx:
        events = usage.list_events(tx, Slice(limit=100), kind=UsageKind.STORAGE_BYTE_HOURS)
    assert [event.source_id for event in events] == [f"storage:{int(e.occurred_at.timestamp())}" for e in events]
    return {event.occurred_at: event.quantity for event in sorted(events, key=lambda event: event.occurred_at)}


def test_the_hour_that_ended_is_metered_by_what_is_held_and_charged(org: Caller, rival: Caller, at: At) -> None:
    with db.tenant(org) as tx:
        billing.grant(tx, org, amount_microusd=1_000, source_id="purchase:1", reason="test")
        before = billing.balance(tx).available_microusd
    store(org, GB)
    store(org, GB, holder="mem_2")
    assert meter() == 1
    assert metered(org) == {ELEVEN: 2 * GB}
    assert metered(rival) == {}
    price = billing.price_of(UsageKind.STORAGE_BYTE_HOURS, 2 * GB, {}, at=ELEVEN).cost_microusd
    assert price > 0
    with db.tenant(org) as tx:
        assert billing.balance(tx).available_microusd == before - price


def test_an_hour_metered_twice_counts_once_by_what_was_held_first(org: Caller, at: At) -> None:
    store(org, GB)
    meter()
    store(org, GB, holder="mem_2")
    at(FIVE_PAST + timedelta(minutes=54))
    assert meter() == 0
    assert metered(org) == {ELEVEN: GB}
    at(FIVE_PAST + HOUR)
    assert meter() == 1
    assert metered(org) == {ELEVEN: GB, ELEVEN + HOUR: 2 * GB}


def test_an_hour_metered_by_many_at_once_counts_once(org: Caller, at: At) -> None:
    store(org, GB)
    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(meter_storage.meter, [org.org_id] * 16)) == 1
    assert metered(org) == {ELEVEN: GB}


@pytest.mark.parametrize(
    ("hours_away", "made_up"), [(1, 1), (2, 2), (24, 24), (25, 24), (24 * 40, 24)], ids=lambda hours: str(hours)
)
def test_hours_that_nobody_metered_are_made_up_for_up_to_a_day(
    org: Caller, at: At, hours_away: int, made_up: int
) -> None:
    store(org, GB)
    meter()
    store(org, GB, holder="mem_2")
    at(FIVE_PAST + hours_away * HOUR)
    assert meter() == made_up
    last = ELEVEN + hours_away * HOUR
    wanted = {last - n * HOUR: 2 * GB for n in reversed(range(made_up))}
    assert metered(org) == {ELEVEN: GB} | wanted


def test_hours_before_anything_was_stored_are_never_metered(org: Caller, at: At) -> None:
    for n in range(3):
        at(FIVE_PAST + n * HOUR)
        assert meter() == 0
    store(org, GB)
    at(FIVE_PAST + 3 * HOUR)
    assert meter() == 1
    assert metered(org) == {ELEVEN + 3 * HOUR: GB}


def test_hours_in_which_nothing_was_stored_are_not_taken_for_missed_ones(org: Caller, at: At) -> None:
    store(org, GB)
    meter()
    delete(org)
    for n in range(1, 5):
        at(FIVE_PAST + n * HOUR)
        meter()
    store(org, GB)
    at(FIVE_PAST + 5 * HOUR)
    assert meter() == 1
    # One hour of nothing is put down, and stands for those after it.
    assert metered(org) == {ELEVEN: GB, ELEVEN + HOUR: 0, ELEVEN + 5 * HOUR: GB}


def test_a_clock_that_goes_back_meters_nothing(org: Caller, at: At) -> None:
    store(org, GB)
    meter()
    at(FIVE_PAST - 3 * HOUR)
    assert meter() == 0
    assert metered(org) == {ELEVEN: GB}


def test_a_tenant_that_can_not_be_metered_stops_no_other(org: Caller, rival: Caller, at: At) -> None:
    store(org, GB)
    store(rival, GB)
    with db.tenant(org) as tx:
        tx.execute("UPDATE orgs SET plan = 'gone'")
    with pytest.raises(ExceptionGroup):
        meter()
    assert (metered(org), metered(rival)) == ({}, {ELEVEN: GB})
