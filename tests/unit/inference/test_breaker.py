"""A breaker opens by its rule, lets the provider prove itself, and closes; figures are those of the last minute."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.inference.breaker import KEPT_MS, Rule, Seen, State, after
from shared.inference.policy import BreakerState

RULE = Rule()
NOW = 1_795_000_000_000
MINUTE = 60_000


def good(at: int = NOW, count: int = 1, **samples: list[int]) -> Seen:
    return Seen(True, at, counted=count, **samples)


def bad(at: int = NOW, count: int = 1) -> Seen:
    return Seen(False, at, counted=count)


def seen(*all_of: Seen) -> State:
    return after(State(), all_of, RULE)


def test_it_opens_at_the_fifth_failure_in_a_row() -> None:
    assert seen(*[bad()] * 4).breaker(NOW) is BreakerState.CLOSED
    assert seen(*[bad()] * 5).breaker(NOW) is BreakerState.OPEN


def test_a_success_ends_the_row() -> None:
    assert seen(*[bad()] * 4, good(), *[bad()] * 4).breaker(NOW) is BreakerState.CLOSED


def test_a_call_that_went_well_before_the_last_failure_does_not_end_the_row() -> None:
    state = seen(*[bad()] * 4, good(NOW - 1), bad())
    assert state.breaker(NOW) is BreakerState.OPEN


def test_failures_that_are_far_apart_are_no_row() -> None:
    state = seen(*(bad(NOW + number * KEPT_MS) for number in range(9)))
    assert state.breaker(NOW + 9 * KEPT_MS) is BreakerState.CLOSED


@pytest.mark.parametrize(
    ("calls", "state"),
    [
        ([good(), bad()] * 10, BreakerState.OPEN),
        ([good(), *[good(), bad()] * 10], BreakerState.CLOSED),
        ([bad(), *[good(), bad()] * 9], BreakerState.CLOSED),
    ],
    ids=["half of twenty", "less than half", "more, of fewer than twenty"],
)
def test_it_opens_when_half_of_at_least_twenty_fail(calls: list[Seen], state: BreakerState) -> None:
    assert seen(*calls).breaker(NOW) is state


def test_failures_of_more_than_a_minute_ago_do_not_count() -> None:
    state = after(
        seen(*[bad(), good()] * 9), [bad(NOW + 2 * MINUTE), good(NOW + 2 * MINUTE), bad(NOW + 2 * MINUTE)], RULE
    )
    assert state.breaker(NOW + 2 * MINUTE) is BreakerState.CLOSED
    assert state.health(NOW + 2 * MINUTE).error_rate == pytest.approx(2 / 3)
    assert state.health(NOW + 4 * MINUTE).error_rate is None


def test_after_ten_seconds_it_is_half_open_and_tells_until_then_how_long_it_takes() -> None:
    state = seen(*[bad()] * 5)
    assert state.health(NOW + 4_000).retry_in_s == 6
    assert state.breaker(NOW + 9_999) is BreakerState.OPEN
    assert state.breaker(NOW + 10_000) is BreakerState.HALF_OPEN
    assert state.health(NOW + 10_000).retry_in_s == 0


def test_half_open_it_closes_at_a_success_and_begins_anew() -> None:
    state = after(seen(*[bad()] * 30), [good(NOW + 10_000), bad(NOW + 10_001)], RULE)
    assert state.breaker(NOW + 10_002) is BreakerState.CLOSED


def test_half_open_it_opens_again_at_one_failure() -> None:
    state = after(seen(*[bad()] * 5), [bad(NOW + 10_000)], RULE)
    assert state.breaker(NOW + 19_999) is BreakerState.OPEN
    assert state.breaker(NOW + 20_000) is BreakerState.HALF_OPEN


def test_half_open_one_failure_is_enough_however_long_ago_the_others_were() -> None:
    by_rate = seen(*[good(), bad()] * 10)
    later = NOW + 2 * MINUTE
    assert after(by_rate, [bad(later)], RULE).breaker(later) is BreakerState.OPEN


def test_calls_that_were_under_way_when_it_opened_neither_close_it_nor_keep_it_open_longer() -> None:
    state = after(seen(*[bad()] * 5), [good(NOW + 1), bad(NOW + 5_000)], RULE)
    assert state.breaker(NOW + 9_999) is BreakerState.OPEN
    assert state.breaker(NOW + 10_000) is BreakerState.HALF_OPEN


def test_latencies_are_medians_of_the_last_minute() -> None:
    state = seen(good(latencies=[10, 30, 20], first_tokens=[5]))
    health = state.health(NOW)
    assert (health.latency_ms, health.first_token_ms, health.error_rate) == (20, 5, 0.0)
    later = state.health(NOW + 2 * MINUTE)
    assert (later.latency_ms, later.first_token_ms) == (None, None)


def test_a_refused_request_ends_a_row_and_counts_in_no_figure() -> None:
    state = seen(*[bad()] * 4, good(count=0))
    assert state.in_a_row == 0
    assert state.health(NOW).error_rate == 1.0


@given(
    st.lists(
        st.builds(
            Seen,
            st.booleans(),
            st.integers(NOW, NOW + 5 * MINUTE),
            counted=st.integers(0, 50),
            latencies=st.lists(st.integers(0, 10**7), max_size=12),
            first_tokens=st.lists(st.integers(0, 10**7), max_size=12),
        ),
        max_size=40,
    )
)
def test_whatever_was_seen_it_stays_small_and_comes_back_as_it_was_shared(calls: list[Seen]) -> None:
    state = seen(*calls)
    assert State.decode(state.encode()) == state
    assert len(state.encode()) < 2_500
    assert state.health(NOW + 5 * MINUTE).breaker in BreakerState


@given(st.lists(st.booleans(), max_size=60))
def test_each_change_is_newer_than_the_last_though_a_clock_stands_still(goods: list[bool]) -> None:
    state = State()
    for each in goods:
        new = state.plus(Seen(each, NOW), RULE)
        assert new.at > state.at
        state = new


@pytest.mark.parametrize(
    "raw",
    [b"", b"{}", b"[]", b"\xff", b"null", b"[1,2]", b'[1,"a",0,0,0,[]]', b"[1,1,0,0,0,[[1]]]", b"[2,1,0,0,0,[]]"],
    ids=repr,
)
def test_what_is_no_state_is_none(raw: bytes) -> None:
    assert State.decode(raw) is None
