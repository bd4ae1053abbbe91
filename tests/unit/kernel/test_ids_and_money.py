"""Ids read back what they show; money rounds half to even."""

from decimal import Decimal
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.kernel import ids
from shared.kernel.errors import InvalidRequest
from shared.kernel.money import price, show_usd


@given(st.uuids())
def test_a_shown_id_reads_back_as_itself(value: UUID) -> None:
    assert ids.read("run", ids.show("run", value)) == value


def test_ids_sort_by_creation() -> None:
    made = [ids.new() for _ in range(100)]
    assert sorted(ids.show("run", each) for each in made) == [ids.show("run", each) for each in made]


@pytest.mark.parametrize(
    "text", ["", "run_", "agent_01h455vb4pex5vsknk084sn02q", "run_01h455vb4pex5vsknk084sn02u", "run_" + "z" * 26]
)
def test_what_is_no_id_of_this_kind_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest):
        ids.read("run", text)


@pytest.mark.parametrize(
    ("quantity", "microusd", "per", "expected"),
    [
        (1_500, 250_000, 1_000_000, 375),
        (1, 500_000, 1_000_000, 0),  # 0.5 to even
        (3, 500_000, 1_000_000, 2),  # 1.5 to even
        (5, 500_000, 1_000_000, 2),  # 2.5 to even
        (Decimal("0.5"), 3, 1, 2),
        (0, 10, 1, 0),
    ],
)
def test_a_price_is_rounded_half_to_even(quantity: int, microusd: int, per: int, expected: int) -> None:
    assert price(quantity, microusd=microusd, per=per) == expected


@given(st.integers(min_value=0, max_value=10**12), st.integers(min_value=0, max_value=10**9))
def test_a_price_is_never_more_than_half_a_micro_dollar_off(quantity: int, microusd: int) -> None:
    exact = Decimal(quantity) * microusd / 1_000_000
    assert abs(price(quantity, microusd=microusd, per=1_000_000) - exact) <= Decimal("0.5")


def test_dollars_are_shown_to_the_micro_dollar() -> None:
    assert show_usd(375) == "$0.000375"
    assert show_usd(-1_500_000) == "-$1.500000"
