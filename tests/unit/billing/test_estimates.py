"""What is expected, what nine in ten don't exceed, and what is held: from past costs or from the price book."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.billing.estimates import (
    LEAST_SAMPLES,
    Basis,
    Estimate,
    by_price_book,
    estimate_from,
    first_refusal,
)
from shared.kernel.errors import InsufficientCredits, NotFound, QuotaExceeded, RunyardError

COSTS = st.lists(st.integers(0, 2**50), max_size=250)
AMOUNT = st.integers(0, 2**50)


@given(history=COSTS, otherwise=AMOUNT, worst=AMOUNT)
def test_expected_is_never_above_p90_nor_that_above_the_worst_case(
    history: list[int], otherwise: int, worst: int
) -> None:
    found = estimate_from(history, otherwise=otherwise, worst_microusd=worst)
    assert 0 <= found.expected_microusd <= found.p90_microusd <= found.worst_microusd == worst


@given(history=COSTS, worst=AMOUNT, seed=st.integers())
def test_nine_in_ten_of_the_past_costs_are_within_p90_in_whatever_order_they_come(
    history: list[int], worst: int, seed: int
) -> None:
    found = estimate_from(history, otherwise=0, worst_microusd=worst)
    assert 10 * sum(min(cost, worst) <= found.p90_microusd for cost in history) >= 9 * len(history)
    shuffled = random.Random(seed).sample(history, len(history))
    assert estimate_from(shuffled, otherwise=0, worst_microusd=worst) == found


@pytest.mark.parametrize(
    ("history", "expected", "p90"),
    [
        pytest.param([10] * 5, 10, 10, id="all alike"),
        # ranks 1 to 10: the ninth is the nearest to 0.9 * 10
        pytest.param(list(range(1, 11)), 6, 9, id="ten: 5.5 goes to the even 6, the ninth"),
        # 0.9 * 5 = 4.5: the fifth
        pytest.param([1, 2, 3, 4, 90], 20, 90, id="five: the fifth"),
        # 0.9 * 11 = 9.9: the tenth
        pytest.param([0, 0, 0, 0, 0, 0, 0, 0, 0, 5, 6], 1, 5, id="eleven: the tenth"),
        pytest.param([0] * 19 + [200], 10, 10, id="one very dear lifts the mean and p90 with it"),
        pytest.param([0, 0, 0, 0, 2], 0, 2, id="0.4 goes down"),
        pytest.param([0, 0, 0, 0, 5_000], 200, 1_000, id="dearer than this time can be counts as the worst case"),
    ],
)
def test_a_history_gives_its_mean_and_its_nearest_rank(history: list[int], expected: int, p90: int) -> None:
    found = estimate_from(history, otherwise=77, worst_microusd=1_000)
    assert found == Estimate(expected, p90, 1_000, Basis.HISTORY, len(history))


@pytest.mark.parametrize("samples", range(LEAST_SAMPLES))
def test_too_short_a_history_leaves_it_to_the_price_book_of_whose_spread_nothing_is_known(samples: int) -> None:
    found = estimate_from([1] * samples, otherwise=300, worst_microusd=1_000)
    assert found == Estimate(300, 1_000, 1_000, Basis.PRICE_BOOK, 0)


def test_the_price_book_never_expects_more_than_is_held() -> None:
    assert by_price_book(1_001, 1_000) == Estimate(1_000, 1_000, 1_000, Basis.PRICE_BOOK, 0)


@pytest.mark.parametrize("amounts", [(-1, 0, 0), (2, 1, 3), (1, 3, 2)], ids=str)
def test_an_impossible_estimate_is_refused(amounts: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="impossible"):
        Estimate(*amounts, Basis.HISTORY, 5)


def _raising(error: RunyardError) -> None:
    raise error


def test_the_first_want_of_room_or_money_is_the_refusal() -> None:
    full, poor = QuotaExceeded("full"), InsufficientCredits("poor")
    assert first_refusal(lambda: None, lambda: _raising(full), lambda: _raising(poor)) is full
    assert first_refusal(lambda: None, lambda: _raising(poor)) is poor
    assert first_refusal(lambda: None) is None


def test_what_is_wrong_with_the_request_itself_is_raised() -> None:
    with pytest.raises(NotFound):
        first_refusal(lambda: _raising(NotFound("gone")), lambda: _raising(InsufficientCredits("poor")))
