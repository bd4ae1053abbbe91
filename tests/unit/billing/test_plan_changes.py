"""Months of a subscription and what a change within one of them costs, calculated by hand."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.billing.plan_changes import (
    PaymentRequired,
    PlanChange,
    PlanDowngradeBlocked,
    PlanNotOffered,
    Subscription,
    change,
    period_of,
)
from shared.kernel import ids
from shared.quotas.model import Limits, QuotaStatus
from shared.quotas.plans import PLANS, Resource

_ORG = ids.new()
# A month of 30 days: a tenth of it is three days.
_START, _END = datetime(2026, 6, 1, tzinfo=UTC), datetime(2026, 7, 1, tzinfo=UTC)
_USD = 1_000_000
# Hypothesis adds the zone.
_YEARS = datetime(2020, 1, 1), datetime(2030, 1, 1)  # noqa: DTZ001


def on(plan: str, *, given_usd: int | None = None) -> Subscription:
    """A subscription that runs from June 1; `given_usd` are the credits of which it had its share."""
    credits_ = PLANS[plan].credits_a_month_microusd if given_usd is None else given_usd * _USD
    return Subscription(_ORG, plan, _START, _END, _START, credits_)


def move(subscription: Subscription, to: str, *, days: float, held: list[QuotaStatus] | None = None) -> PlanChange:
    limits = Limits.of(subscription.plan, {})
    return change(subscription, _START + timedelta(days=days), limits=limits, wanted=PLANS[to], held=held or [])


def day(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("anchor", "at", "start", "end"),
    [
        ("2026-01-31T10:00", "2026-01-31T10:00", "2026-01-31T10:00", "2026-02-28T10:00"),
        ("2026-01-31T10:00", "2026-02-28T09:59", "2026-01-31T10:00", "2026-02-28T10:00"),
        ("2026-01-31T10:00", "2026-02-28T10:00", "2026-02-28T10:00", "2026-03-31T10:00"),
        ("2026-01-31T10:00", "2026-03-31T09:59", "2026-02-28T10:00", "2026-03-31T10:00"),
        ("2026-01-31T10:00", "2026-04-30T10:00", "2026-04-30T10:00", "2026-05-31T10:00"),
        ("2028-01-30T00:00", "2028-02-29T00:00", "2028-02-29T00:00", "2028-03-30T00:00"),
        ("2026-11-15T00:00", "2027-01-14T23:59", "2026-12-15T00:00", "2027-01-15T00:00"),
        ("2026-12-31T23:59", "2027-02-28T23:59", "2027-02-28T23:59", "2027-03-31T23:59"),
    ],
    ids=["first", "before-28-feb", "28-feb", "before-31-mar", "30-apr", "leap", "new-year", "end-of-year"],
)
def test_months_are_counted_from_the_first_day_and_shortened_where_the_calendar_is(
    anchor: str, at: str, start: str, end: str
) -> None:
    assert period_of(day(anchor), day(at)) == (day(start), day(end))


@given(
    anchor=st.datetimes(*_YEARS, timezones=st.just(UTC)),
    later=st.timedeltas(timedelta(), timedelta(days=4000)),
)
def test_every_moment_lies_in_one_month_and_months_follow_without_a_gap(anchor: datetime, later: timedelta) -> None:
    start, end = period_of(anchor, anchor + later)
    assert start <= anchor + later < end
    assert period_of(anchor, end)[0] == end
    assert period_of(anchor, end - timedelta(microseconds=1)) == (start, end)


@pytest.mark.parametrize(
    ("before", "after", "days", "credit", "charge", "included"),
    [
        # All of the month is left: all of each price.
        ("free", "pro", 0, 0, 29_000_000, 20_000_000),
        # A third of the month is left: 29 / 3 = 9.666667 and 20 / 3 = 6.666667.
        ("free", "pro", 20, 0, 9_666_667, 6_666_667),
        # Half is left: 14.50 unused of 29, 49.50 of 99, and (60 - 20) / 2 credits.
        ("pro", "team", 15, 14_500_000, 49_500_000, 20_000_000),
        # A tenth is left of 99; pro costs 29 and the 40 credits above its own stay: 6.90.
        ("team", "pro", 27, 9_900_000, 6_900_000, 0),
        # Half is left: 29 / 2 against the 20 credits that stay, which are paid: 4.50 are unused.
        ("pro", "free", 15, 14_500_000, 10_000_000, 0),
        # Nothing is left.
        ("free", "team", 30, 0, 0, 0),
    ],
    ids=["at-once", "third", "half", "down-a-tenth", "down-to-free", "over"],
)
def test_a_change_counts_the_rest_of_the_month(
    before: str, after: str, days: int, credit: int, charge: int, included: int
) -> None:
    found = move(on(before), after, days=days)
    assert (found.credit_microusd, found.charge_microusd, found.included_microusd) == (credit, charge, included)
    assert found.due_microusd == max(0, charge - credit)


def test_half_a_micro_dollar_goes_to_the_even_one() -> None:
    # One microsecond of 30 days is left of 29 dollars: 0.0000112 rounds to nothing.
    assert move(on("free"), "pro", days=30 - 1e-6 / 86_400).charge_microusd == 0
    start = datetime(2026, 6, 1, tzinfo=UTC)
    short = Subscription(_ORG, "free", start, start + timedelta(microseconds=58_000_000), start, 0)
    limits = Limits.of("free", {})
    # 29,000,000 over 58,000,000 microseconds is half a micro-dollar each: 1.5 and 2.5 both round to 2.
    for left in (3, 4, 5):
        now = short.period_end - timedelta(microseconds=left)
        assert change(short, now, limits=limits, wanted=PLANS["pro"], held=[]).charge_microusd == 2


def test_going_down_and_up_again_brings_no_credits_twice_and_costs_what_was_paid_back() -> None:
    down = move(on("team"), "pro", days=15)
    assert (down.credit_microusd, down.charge_microusd) == (49_500_000, 34_500_000)
    up = move(on("pro", given_usd=60), "team", days=15)
    assert up.included_microusd == 0
    assert up.due_microusd == down.credit_microusd - down.charge_microusd


@given(
    plans=st.lists(st.sampled_from(["free", "pro", "team"]), min_size=1, max_size=12),
    moments=st.lists(st.floats(0, 30), min_size=12, max_size=12),
)
def test_no_way_through_a_month_brings_more_credits_than_its_largest_plan(
    plans: list[str], moments: list[float]
) -> None:
    current, granted, paid = on("free"), 0, 0
    for plan, days in zip(plans, sorted(moments), strict=False):
        found = move(current, plan, days=days)
        granted += found.included_microusd
        paid += found.charge_microusd - found.credit_microusd
        current = Subscription(_ORG, plan, _START, _END, _START, found.monthly_microusd)
    largest = max(PLANS[plan].credits_a_month_microusd for plan in plans)
    # Each step rounds by itself, by half a micro-dollar at most.
    assert granted <= largest + len(plans)
    assert paid >= granted - 2 * len(plans), "credits were had for less than they cost"


def test_the_plan_one_has_is_no_change() -> None:
    found = move(on("pro"), "pro", days=3, held=[QuotaStatus(Resource.MEMBERS, 5, 50)])
    assert not found.changes
    assert (found.credit_microusd, found.charge_microusd, found.included_microusd) == (0, 0, 0)
    assert (found.obstacles, found.monthly_microusd) == ((), 20_000_000)


def test_everything_in_the_way_is_told_at_once() -> None:
    held = [
        QuotaStatus(Resource.SANDBOXES, 20, 6),
        QuotaStatus(Resource.MEMBERS, 5, 4),
        QuotaStatus(Resource.MEMORIES, None, 10_001),
        QuotaStatus(Resource.CONCURRENT_RUNS, 20, 5),
    ]
    found = move(on("pro"), "free", days=1, held=held)
    with pytest.raises(PlanDowngradeBlocked) as refusal:
        found.require_free_of_obstacles()
    assert refusal.value.details is not None
    assert refusal.value.details["obstacles"] == [
        {"resource": "sandboxes", "limit": 5, "used": 6, "lift": "End one"},
        {"resource": "members", "limit": 1, "used": 4, "lift": "Remove one or make one a viewer"},
        {"resource": "memories", "limit": 10_000, "used": 10_001, "lift": "Delete some"},
    ]
    for resource in ("sandboxes: 6 held, 5 allowed", "members: 4 held", "memories: 10001 held"):
        assert resource in refusal.value.message


def test_what_was_too_much_already_stands_in_no_larger_plans_way() -> None:
    limits = Limits.of("free", {"quotas": {"members": 1, "sandboxes": 60}})
    held = [QuotaStatus(Resource.MEMBERS, 1, 9), QuotaStatus(Resource.SANDBOXES, 60, 55)]
    found = change(on("free"), _START, limits=limits, wanted=PLANS["pro"], held=held)
    assert found.obstacles == ()


def test_what_an_org_is_allowed_apart_from_its_plan_stays_with_it() -> None:
    limits = Limits.of("pro", {"quotas": {"members": 9}, "retention_days": 100})
    found = change(on("pro"), _START, limits=limits, wanted=PLANS["free"], held=[QuotaStatus(Resource.MEMBERS, 9, 8)])
    assert (found.obstacles, found.retention_days) == ((), 100)


def test_what_costs_something_is_refused_until_it_is_paid() -> None:
    found = move(on("free"), "pro", days=15)
    with pytest.raises(PaymentRequired, match=r"now costs \$14.500000") as refusal:
        found.require_payable(paid=False)
    assert refusal.value.details is not None
    assert refusal.value.details["due_microusd"] == 14_500_000
    found.require_payable(paid=True)
    move(on("pro"), "free", days=15).require_payable(paid=False)


@pytest.mark.parametrize("plan", ["enterprise", "operator"])
def test_a_plan_without_a_price_is_nobodys_to_take(plan: str) -> None:
    with pytest.raises(PlanNotOffered):
        move(on("free"), plan, days=15).require_payable(paid=False)
