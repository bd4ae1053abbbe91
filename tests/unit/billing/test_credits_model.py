"""The rules of the credit ledger, without a database."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.billing.model import (
    Balance,
    EntryKind,
    Hold,
    HoldReleased,
    HoldSettled,
    HoldStatus,
    Posting,
    RefundExceedsSettled,
    SettleExceedsHold,
)
from shared.kernel import ids
from shared.kernel.errors import InsufficientCredits, RunyardError

NOW = datetime(2026, 6, 1, tzinfo=UTC)


def posting(kind: EntryKind, amount: int) -> Posting:
    return Posting(kind, amount, "source", "reason", ids.new())


def open_hold(amount: int) -> Hold:
    return Hold(
        id=ids.new(),
        source_id="source",
        amount_microusd=amount,
        settled_microusd=0,
        status=HoldStatus.OPEN,
        created_at=NOW,
        expires_at=NOW + timedelta(hours=1),
        closed_at=None,
    )


def test_all_that_is_available_can_be_held_and_not_one_microdollar_more() -> None:
    balance = Balance(granted_microusd=100)
    assert balance.after(posting(EntryKind.HOLD, 100)).available_microusd == 0
    with pytest.raises(InsufficientCredits, match=r"\$0.000101 and \$0.000100 is available"):
        balance.after(posting(EntryKind.HOLD, 101))


def test_no_more_is_refunded_than_was_settled() -> None:
    balance = Balance(granted_microusd=100, settled_microusd=60, refunded_microusd=20)
    assert balance.after(posting(EntryKind.REFUND, 40)).available_microusd == 100
    with pytest.raises(RefundExceedsSettled):
        balance.after(posting(EntryKind.REFUND, 41))


@given(st.lists(st.tuples(st.sampled_from([EntryKind.GRANT, EntryKind.HOLD, EntryKind.REFUND]), st.integers(0, 500))))
def test_a_balance_moves_as_the_kind_of_each_entry_says(steps: list[tuple[EntryKind, int]]) -> None:
    balance = Balance()
    for kind, amount in steps:
        try:
            after = balance.after(posting(kind, amount))
        except RunyardError:
            continue
        assert after.available_microusd == balance.available_microusd + kind.to_available * amount >= 0
        assert after.held_microusd == balance.held_microusd + kind.to_held * amount
        assert after.entries == balance.entries + 1
        balance = after


def test_what_a_settled_hold_does_not_need_is_given_back() -> None:
    closed, postings = open_hold(100).settled(30, at=NOW)
    assert [(step.kind, step.amount_microusd) for step in postings] == [
        (EntryKind.SETTLE, 30),
        (EntryKind.RELEASE, 70),
    ]
    assert (closed.status, closed.settled_microusd, closed.closed_at) == (HoldStatus.SETTLED, 30, NOW)


def test_a_hold_used_up_leaves_nothing_to_release() -> None:
    _, postings = open_hold(100).settled(100, at=NOW)
    assert [step.kind for step in postings] == [EntryKind.SETTLE]


def test_more_than_is_held_cannot_be_settled() -> None:
    with pytest.raises(SettleExceedsHold):
        open_hold(100).settled(101, at=NOW)


@pytest.mark.parametrize(("status", "error"), [("settled", HoldSettled), ("released", HoldReleased)])
def test_a_closed_hold_stays_closed(status: str, error: type[RunyardError]) -> None:
    closed = replace(open_hold(100), status=HoldStatus(status))
    with pytest.raises(error):
        closed.settled(1, at=NOW)
    with pytest.raises(error):
        closed.released(reason="released", at=NOW)
