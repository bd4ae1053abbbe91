"""The forecast of when credits run out, against figures worked out by hand."""

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.billing.forecast import HORIZON, Credits, DaySpent, Forecast, forecast

NOON = datetime(2026, 6, 28, 12, tzinfo=UTC)
TODAY = NOON.date()
LAST = datetime.max.replace(tzinfo=UTC)


def back(days: int) -> date:
    return TODAY - timedelta(days=days)


def steady(microusd: int, days: int = 28) -> list[DaySpent]:
    """So much on each day, and of today, half of which has passed, half as much."""
    return [DaySpent(TODAY, microusd // 2), *(DaySpent(back(age), microusd) for age in range(1, days))]


def test_a_steady_spender_s_credits_last_as_long_as_they_divide() -> None:
    found = forecast(steady(1_000), [Credits(10_000)], NOON)
    in_ten_days = NOON + timedelta(days=10)
    assert found == Forecast(1_000, in_ten_days, in_ten_days, in_ten_days, 28)


@pytest.mark.parametrize(
    "days",
    [[], [DaySpent(TODAY, 0)], [DaySpent(back(28), 500), DaySpent(TODAY + timedelta(days=1), 500)]],
    ids=["no days", "nothing used", "too long ago or to come"],
)
def test_where_nothing_is_spent_nothing_runs_out(days: list[DaySpent]) -> None:
    assert forecast(days, [Credits(10_000)], NOON) == Forecast(0, None, None, None, 0)


def test_without_credits_they_have_run_out_already() -> None:
    found = forecast(steady(1_000), [], NOON)
    assert (found.runs_out_at, found.earliest, found.latest) == (NOON, NOON, NOON)


def test_later_days_weigh_more() -> None:
    # Yesterday weighs 27 and the day before 26, and today's half 28 / 2 = 14: 27 x 6,700 / 67 = 2,700.
    late = forecast([DaySpent(back(1), 6_700), DaySpent(back(2), 0)], [Credits(1)], NOON)
    assert late.per_day_microusd == round(27 * 6_700 / (14 + 27))
    both = forecast([DaySpent(back(1), 0), DaySpent(back(2), 6_700)], [Credits(1)], NOON)
    assert both.per_day_microusd == 26 * 6_700 / 67 == 2_600


def test_days_before_the_first_use_do_not_count() -> None:
    assert forecast(steady(1_000, days=3), [], NOON).basis_days == 3
    assert forecast(steady(1_000, days=3), [], NOON).per_day_microusd == 1_000


def test_of_today_only_what_has_passed_counts_and_at_least_an_hour() -> None:
    midnight = datetime(2026, 6, 28, tzinfo=UTC)
    used = [DaySpent(TODAY, 1_000)]
    assert forecast(used, [], midnight + timedelta(hours=6)).per_day_microusd == 4_000
    assert forecast(used, [], midnight + timedelta(microseconds=1)).per_day_microusd == 24_000


def test_a_day_is_a_day_in_utc_wherever_the_clock_stands() -> None:
    elsewhere = NOON.astimezone(datetime.fromisoformat("2026-01-01T00:00:00+13:00").tzinfo)
    assert forecast(steady(1_000), [Credits(10_000)], elsewhere) == forecast(steady(1_000), [Credits(10_000)], NOON)


def test_the_range_is_that_of_the_dearest_and_the_cheapest_week() -> None:
    # One week at 2,000 a day among three at 1,000.
    days = [DaySpent(TODAY, 500)]
    days += [DaySpent(back(age), 2_000 if 8 <= age <= 14 else 1_000) for age in range(1, 28)]
    found = forecast(days, [Credits(14_000)], NOON)
    one_week, two_weeks = NOON + timedelta(days=7), NOON + timedelta(days=14)
    assert (found.earliest, found.latest) == (one_week, two_weeks)
    assert one_week < (found.runs_out_at or LAST) < two_weeks


def test_below_two_weeks_the_range_is_that_of_single_days() -> None:
    days = [DaySpent(TODAY, 1_000), DaySpent(back(1), 4_000), DaySpent(back(2), 0), DaySpent(back(3), 1_000)]
    found = forecast(days, [Credits(8_000)], NOON)
    assert found.earliest == NOON + timedelta(days=2)
    # There was a day without any use: it may well go on like that.
    assert found.latest is None


def test_credits_that_expire_before_they_are_spent_last_no_longer_than_that() -> None:
    plan, bought = Credits(10_000, NOON + timedelta(days=4)), Credits(3_000)
    # 4,000 of the first are spent in four days, the rest expires; 3,000 last for three days more.
    assert forecast(steady(1_000), [plan, bought], NOON).runs_out_at == NOON + timedelta(days=7)
    # The other way round, the first 3,000 last for three days and then one day is left for the second.
    assert forecast(steady(1_000), [bought, plan], NOON).runs_out_at == NOON + timedelta(days=4)
    # A later one that ends takes nothing away from the first, and doesn't give back what was spent of it.
    short = Credits(10_000, NOON + timedelta(days=2))
    assert forecast(steady(1_000), [bought, short], NOON).runs_out_at == NOON + timedelta(days=3)
    assert forecast(steady(1_000), [Credits(9, NOON), bought], NOON).runs_out_at == NOON + timedelta(days=3)


def test_beyond_ten_years_nothing_is_foretold() -> None:
    ten_years = HORIZON.days * 1_000
    assert forecast(steady(1_000), [Credits(ten_years)], NOON).runs_out_at == NOON + HORIZON
    assert forecast(steady(1_000), [Credits(ten_years + 1)], NOON).runs_out_at is None
    assert forecast(steady(2), [Credits(2**62)], NOON).runs_out_at is None
    assert forecast(steady(2), [Credits(2**62, NOON + 2 * HORIZON)], NOON).runs_out_at is None


amounts = st.integers(0, 10**9)
ends = st.none() | st.timedeltas(timedelta(days=-1), 2 * HORIZON).map(lambda time: NOON + time)


@given(
    st.lists(st.builds(DaySpent, st.integers(0, 40).map(back), amounts), max_size=40),
    st.lists(st.builds(Credits, amounts, ends), max_size=6),
    st.timedeltas(timedelta(0), timedelta(hours=11)),
)
def test_earliest_comes_before_latest_and_no_end_is_beyond_the_credits(
    days: list[DaySpent], credits_left: list[Credits], later: timedelta
) -> None:
    now = NOON + later
    found = forecast(days, credits_left, now)
    earliest, expected, latest = (moment or LAST for moment in (found.earliest, found.runs_out_at, found.latest))
    assert now <= earliest <= expected <= latest
    living = [each for each in credits_left if each.expires_at is None or each.expires_at > now]
    if found.earliest and all(each.expires_at for each in living):
        assert found.earliest <= max([now, *(each.expires_at or now for each in living)])


@given(st.integers(1, 10**9), st.lists(amounts, min_size=1, max_size=5))
def test_without_expiry_what_is_spent_until_the_end_is_what_there_was(per_day: int, lots: list[int]) -> None:
    found = forecast(steady(2 * per_day), [Credits(lot) for lot in lots], NOON)
    if found.runs_out_at is not None:
        lasts = (found.runs_out_at - NOON) / timedelta(days=1)
        assert lasts * 2 * per_day == pytest.approx(sum(lots), rel=1e-6, abs=per_day / 1e9)
