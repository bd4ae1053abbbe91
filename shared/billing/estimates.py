"""What something will probably cost and what it costs at most, told before it starts and compared with what it cost."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum

from shared.billing import estimates_store, lots_store, pricing, store
from shared.billing.change import Change
from shared.billing.model import Balance
from shared.billing.moves import EntryKind, Posting
from shared.kernel import clock
from shared.kernel.caller import Caller
from shared.kernel.db import Tx
from shared.kernel.errors import Kind, RunyardError
from shared.kernel.money import price

# Fewer past costs than these say too little about the next one.
LEAST_SAMPLES = 5
# Older ones than these are of how it once was.
MOST_SAMPLES = 200
_PERCENTILE = 90
# Room, or money, is lacking: what a dry run tells of instead of raising it.
_REFUSALS = (Kind.PAYMENT, Kind.FORBIDDEN)


class Basis(StrEnum):
    """What an estimate rests on: what the same thing cost before, or prices and assumptions alone."""

    HISTORY = "history"
    PRICE_BOOK = "price_book"


@dataclass(frozen=True, slots=True)
class Estimate:
    """Micro-dollars, 0 <= expected <= p90 <= worst. `worst` is what is held; `samples` past costs it rests on."""

    expected_microusd: int
    p90_microusd: int
    worst_microusd: int
    basis: Basis
    samples: int

    def __post_init__(self) -> None:
        if not 0 <= self.expected_microusd <= self.p90_microusd <= self.worst_microusd:
            raise ValueError(f"impossible estimate: {self}")


@dataclass(frozen=True, slots=True)
class DryRun:
    """What a request would cost, and what it would be refused with: None where it would be let through."""

    kind: str
    estimate: Estimate
    refusal: RunyardError | None


@dataclass(frozen=True, slots=True)
class WeekOfEstimates:
    """How good the estimates of one kind and basis were, of what ended in the ISO week that begins on this Monday.

    `error_percent` is the mean of |actual - expected| / actual over those that cost something, None when none did;
    `free` counts the others. The two shares are of all.
    """

    week: date
    kind: str
    basis: Basis
    count: int
    free: int
    error_percent: float | None
    within_p90: float
    beyond_worst: float
    expected_microusd: int
    actual_microusd: int


def estimate_from(history: Sequence[int], *, otherwise: int, worst_microusd: int) -> Estimate:
    """Return the estimate from past costs, or `otherwise` where those are fewer than `LEAST_SAMPLES`.

    Expected is the mean and p90 the nearest rank, the least of the past costs that nine in ten did not exceed. What
    cost more than is held this time could not have: each counts up to `worst_microusd`. A mean that a few very dear
    ones pull above the p90 lifts that. Without a history nothing is known of the spread: p90 is the worst case.
    """
    if len(history) < LEAST_SAMPLES:
        return Estimate(min(otherwise, worst_microusd), worst_microusd, worst_microusd, Basis.PRICE_BOOK, 0)
    costs = sorted(min(cost, worst_microusd) for cost in history)
    expected = price(sum(costs), microusd=1, per=len(costs))
    nearest_rank = -(-len(costs) * _PERCENTILE // 100)
    p90 = max(costs[nearest_rank - 1], expected)
    return Estimate(expected, p90, worst_microusd, Basis.HISTORY, len(costs))


def by_price_book(expected_microusd: int, worst_microusd: int) -> Estimate:
    """Return the estimate of what has no history."""
    return estimate_from((), otherwise=expected_microusd, worst_microusd=worst_microusd)


def price_book_of(now: datetime) -> datetime:
    """Return when the prices in force began to hold."""
    return pricing.prices_at(now).effective_from


def note_estimate(tx: Tx, caller: Caller, *, subject: str, kind: str, estimate: Estimate) -> None:
    """Put down what was expected of `subject`, a public id, in the transaction that starts it. Again: the first."""
    estimates_store.insert(
        tx,
        org_id=caller.org_id,
        subject=subject,
        kind=kind,
        basis=estimate.basis,
        samples=estimate.samples,
        expected_microusd=estimate.expected_microusd,
        p90_microusd=estimate.p90_microusd,
        worst_microusd=estimate.worst_microusd,
    )


def close_estimate(tx: Tx, *, subject: str, actual_microusd: int | None) -> None:
    """Put down what it cost in the end, in the transaction that settles it. Without an estimate, or again: nothing.

    None: it was broken off before its end, which says nothing about the estimate: that is left out of the report.
    """
    estimates_store.close(tx, subject, actual_microusd=actual_microusd, now=clock.now())


def accuracy(tx: Tx, since: datetime, until: datetime) -> list[WeekOfEstimates]:
    """Return how good the estimates were of what ended from `since` until before `until`, the latest week first."""
    return [
        WeekOfEstimates(**row | {"basis": Basis(row["basis"])})
        for row in estimates_store.weeks(tx, since=since, until=until)
    ]


def check_affordable(tx: Tx, amount_microusd: int) -> None:
    """Raise `InsufficientCredits` where this much could not be held just now. Nothing is held."""
    change = Change(store.find_balance(tx) or Balance(), clock.now())
    # What lies in lots that are over can't be held, though nobody has taken it away yet.
    change.without_ended(lots_store.ended(tx, now=change.now))
    change.post(Posting(EntryKind.HOLD, amount_microusd, source_id="", reason="", subject_id=None))


def first_refusal(*checks: Callable[[], None]) -> RunyardError | None:
    """Return what the first of the checks that fails refuses for want of room or money; other errors are raised."""
    for check in checks:
        try:
            check()
        except RunyardError as error:
            if error.kind not in _REFUSALS:
                raise
            return error
    return None
