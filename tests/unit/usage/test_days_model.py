"""What a day is asked by: ranges, time zones, dimensions, and ids that tell when they were made."""

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.kernel import ids
from shared.kernel.errors import InvalidRequest
from shared.usage.days_model import (
    UNSEEN_FOR,
    Dimension,
    check_range,
    dimensions_of,
    may_be_a_zone,
    recorded_since,
)


@given(before=st.timedeltas(timedelta(0), UNSEEN_FOR - timedelta(milliseconds=1)))
def test_what_is_recorded_shortly_before_a_moment_counts_as_recorded_since(before: timedelta) -> None:
    now = datetime.now(UTC)
    assert recorded_since(now + before) <= ids.new()


@given(after=st.timedeltas(timedelta(seconds=1), timedelta(days=10_000)))
def test_what_was_recorded_long_before_a_moment_does_not(after: timedelta) -> None:
    now = datetime.now(UTC)
    assert recorded_since(now + UNSEEN_FOR + after) > ids.new()


def test_the_beginning_of_time_is_before_every_id() -> None:
    assert recorded_since(datetime(1900, 1, 1, tzinfo=UTC)).int == 0


@pytest.mark.parametrize("name", ["Europe/Berlin", "America/Argentina/Buenos_Aires", "Etc/GMT+12", "UTC", "EST5EDT"])
def test_what_looks_like_a_zone_is_looked_up(name: str) -> None:
    assert may_be_a_zone(name)


@pytest.mark.parametrize("name", ["", "+02:00", "Europe/", "/etc/passwd", "../x", "posix/UTC", "localtime", "A" * 65])
def test_what_cannot_be_a_zone_is_not(name: str) -> None:
    assert not may_be_a_zone(name)


def test_dimensions_are_named_by_commas_in_any_order_and_number() -> None:
    assert dimensions_of(None) == dimensions_of("") == frozenset()
    assert dimensions_of("model,agent,model") == {Dimension.MODEL, Dimension.AGENT}
    with pytest.raises(InvalidRequest, match="colour"):
        dimensions_of("model,colour")


def test_a_range_may_have_as_many_days_as_may_be_asked_for() -> None:
    first = date(2026, 1, 1)
    check_range(first, first)
    check_range(first, first + timedelta(days=399))
    with pytest.raises(InvalidRequest, match="400"):
        check_range(first, first + timedelta(days=400))
    with pytest.raises(InvalidRequest, match="earlier"):
        check_range(first, first - timedelta(days=1))
