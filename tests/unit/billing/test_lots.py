"""Lots: in which order they are spent, and what is left of a hold's shares of them."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.billing.lots import Lot, LotKind, Share, take, total, without

NOW = datetime(2026, 6, 1, tzinfo=UTC)
AMOUNTS = st.lists(st.integers(1, 50), max_size=6)


def lot(number: int, amount: int = 10, *, priority: int = 200, ends_in_days: int | None = None) -> Lot:
    return Lot(
        id=UUID(int=number),
        kind=LotKind.PURCHASE,
        source_id=f"lot:{number}",
        priority=priority,
        amount_microusd=amount,
        remaining_microusd=amount,
        expires_at=None if ends_in_days is None else NOW + timedelta(days=ends_in_days),
        created_at=NOW,
    )


def shares(amounts: list[int]) -> tuple[Share, ...]:
    return tuple(Share(UUID(int=number), amount, None) for number, amount in enumerate(amounts))


def test_lots_are_spent_by_priority_then_by_their_end_then_by_age() -> None:
    in_order = [
        lot(7, priority=50, ends_in_days=30),
        lot(6, priority=50),
        lot(5, priority=100),
        lot(3, ends_in_days=1),
        lot(4, ends_in_days=1),
        lot(1),
        lot(2),
    ]
    mixed_up = in_order[3:] + in_order[:3]
    assert sorted(mixed_up, key=Lot.spent_before) == in_order


@pytest.mark.parametrize(
    ("kind", "priority"),
    [
        (LotKind.PROMO, 50),
        (LotKind.PLAN, 100),
        (LotKind.ADJUSTMENT, 150),
        (LotKind.PURCHASE, 200),
        (LotKind.REFUND, 200),
    ],
    ids=["promo", "plan", "adjustment", "purchase", "refund"],
)
def test_what_is_given_for_a_while_goes_before_what_was_paid_for(kind: LotKind, priority: int) -> None:
    assert kind.priority == priority


def test_a_lot_is_over_at_its_end_and_one_without_never_is() -> None:
    ending = lot(1, ends_in_days=1)
    assert not ending.ended(NOW + timedelta(days=1, microseconds=-1))
    assert ending.ended(NOW + timedelta(days=1))
    assert not lot(2).ended(datetime.max.replace(tzinfo=UTC))


def test_an_amount_is_taken_from_as_many_lots_as_it_needs_and_empty_ones_are_passed_by() -> None:
    lots = [lot(1, 10), replace(lot(2, 10), remaining_microusd=0), lot(3, 10), lot(4, 10)]
    assert [(share.lot_id.int, share.amount_microusd) for share in take(lots, 15)] == [(1, 10), (3, 5)]
    assert take(lots, 0) == ()


@given(AMOUNTS, st.integers(0, 400))
def test_as_much_is_taken_as_is_asked_for_and_there(amounts: list[int], asked: int) -> None:
    lots = [lot(number, amount) for number, amount in enumerate(amounts)]
    taken = take(lots, asked)
    assert sum(share.amount_microusd for share in taken) == min(asked, total(lots))
    there = {each.id: each.remaining_microusd for each in lots}
    assert all(0 < share.amount_microusd <= there[share.lot_id] for share in taken)


@given(AMOUNTS, st.integers(0, 400))
def test_shares_are_used_up_one_after_the_other(amounts: list[int], spent: int) -> None:
    left = without(shares(amounts), spent)
    assert sum(share.amount_microusd for share in left) == max(0, sum(amounts) - spent)
    # All but the first that is left are whole.
    assert left[1:] == shares(amounts)[len(amounts) - len(left) + 1 :] if left else True


@given(AMOUNTS, st.integers(0, 100), st.integers(0, 100))
def test_spending_in_two_parts_leaves_what_spending_at_once_does(amounts: list[int], one: int, two: int) -> None:
    assert without(without(shares(amounts), one), two) == without(shares(amounts), one + two)
