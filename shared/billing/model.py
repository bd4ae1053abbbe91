"""Credits never go below zero: granted + refunded - settled - expired - held = available >= 0, after every entry."""

from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Self
from uuid import UUID

from shared.billing.lots import Lot as Lot
from shared.billing.lots import LotKind as LotKind
from shared.billing.lots import NextExpiry as NextExpiry
from shared.billing.lots import Share, without
from shared.billing.moves import EntryKind as EntryKind
from shared.billing.moves import Place as Place
from shared.billing.moves import Posting as Posting
from shared.kernel.errors import Conflict, InsufficientCredits, InvalidTransition, NotFound
from shared.kernel.money import show_usd


class HoldStatus(StrEnum):
    """A hold is closed once, by settling or by releasing it."""

    OPEN = "open"
    SETTLED = "settled"
    RELEASED = "released"


class HoldNotFound(NotFound):
    """No credits were held for this."""

    code = "hold_not_found"


class HoldReleased(InvalidTransition):
    """The held credits were given back before the cost was known."""

    code = "hold_released"


class HoldSettled(InvalidTransition):
    """The held credits were settled before, with another amount."""

    code = "hold_settled"


class SettleExceedsHold(Conflict):
    """More would be settled than was held."""

    code = "settle_exceeds_hold"


class SettleBelowParts(Conflict):
    """The total named at the end is less than what was settled in parts before."""

    code = "settle_below_parts"


class AdjustmentExceedsAvailable(Conflict):
    """More would be taken away than is available: what is held or spent can't be adjusted."""

    code = "adjustment_exceeds_available"


class RefundExceedsSettled(Conflict):
    """More would be refunded than was paid."""

    code = "refund_exceeds_settled"


class SourceReused(Conflict):
    """One source caused two different amounts: one of them is a mistake."""

    code = "source_id_reused"


@dataclass(frozen=True, slots=True)
class Balance:
    """A tenant's account: the running totals of its entries, and how many there are.

    `owed_microusd` is what was used beyond what was available then: the next credits pay it first.
    """

    granted_microusd: int = 0
    refunded_microusd: int = 0
    settled_microusd: int = 0
    expired_microusd: int = 0
    held_microusd: int = 0
    entries: int = 0
    owed_microusd: int = 0

    @property
    def available_microusd(self) -> int:
        earned = self.granted_microusd + self.refunded_microusd
        return earned - self.settled_microusd - self.expired_microusd - self.held_microusd

    def after(self, posting: Posting) -> Self:
        """Return the balance with this posting.

        Raises `InsufficientCredits`, `RefundExceedsSettled` or `AdjustmentExceedsAvailable`.
        """
        amount, number = posting.amount_microusd, self.entries + 1
        self._refuse_impossible(posting.kind, amount)
        match posting.kind:
            case EntryKind.GRANT | EntryKind.ADJUST_UP:
                return replace(self, entries=number, granted_microusd=self.granted_microusd + amount)
            case EntryKind.ADJUST_DOWN:
                return replace(self, entries=number, granted_microusd=self.granted_microusd - amount)
            case EntryKind.HOLD:
                return replace(self, entries=number, held_microusd=self.held_microusd + amount)
            case EntryKind.SETTLE:
                return replace(
                    self,
                    entries=number,
                    held_microusd=self.held_microusd - amount,
                    settled_microusd=self.settled_microusd + amount,
                )
            case EntryKind.RELEASE:
                return replace(self, entries=number, held_microusd=self.held_microusd - amount)
            case EntryKind.REFUND:
                return replace(self, entries=number, refunded_microusd=self.refunded_microusd + amount)
            case EntryKind.EXPIRE:
                return replace(self, entries=number, expired_microusd=self.expired_microusd + amount)

    def without(self, expiring_microusd: int) -> Self:
        """Return what it will be once lots that are over have expired."""
        if not expiring_microusd:
            return self
        return replace(self, expired_microusd=self.expired_microusd + expiring_microusd)

    def require(self, amount_microusd: int) -> None:
        """Raise `InsufficientCredits` unless so much can be held."""
        there = self.available_microusd
        if amount_microusd > there:
            lift = "Add credits, or ask for less"
            raise InsufficientCredits(
                f"This needs up to {show_usd(amount_microusd)} and {show_usd(there)} is available. {lift}.",
                details={"needed_microusd": amount_microusd, "available_microusd": there, "lift": lift},
            )

    def _refuse_impossible(self, kind: EntryKind, amount: int) -> None:
        if kind is EntryKind.HOLD:
            self.require(amount)
        if kind is EntryKind.ADJUST_DOWN and amount > (there := self.available_microusd):
            raise AdjustmentExceedsAvailable(f"{show_usd(amount)} can't be taken away: {show_usd(there)} is available.")
        if kind is EntryKind.REFUND and amount > self.settled_microusd - self.refunded_microusd:
            raise RefundExceedsSettled("No more can be refunded than was settled and not yet refunded.")


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the ledger; a tenant's entries are numbered from 1 without gaps, in the order they took effect."""

    id: UUID
    entry_no: int
    kind: EntryKind
    amount_microusd: int
    source_id: str
    reason: str
    available_after_microusd: int
    held_after_microusd: int
    created_at: datetime
    subject_id: UUID | None = None
    part_id: str = ""

    @classmethod
    def of(cls, posting: Posting, after: Balance, *, entry_id: UUID, created_at: datetime) -> Self:
        """Return the entry that `posting` makes, `after` being the balance it leads to."""
        return cls(
            id=entry_id,
            entry_no=after.entries,
            kind=posting.kind,
            amount_microusd=posting.amount_microusd,
            source_id=posting.source_id,
            reason=posting.reason,
            available_after_microusd=after.available_microusd,
            held_after_microusd=after.held_microusd,
            created_at=created_at,
            subject_id=posting.subject_id,
            part_id=posting.part_id,
        )


@dataclass(frozen=True, slots=True)
class Hold:
    """Credits set aside for a cause; `settled_microusd` of them were spent, so far or in the end.

    `shares` are the lots they were taken from, spent in this order. `owed_microusd` is what a charge came to beyond
    what was available; below zero, it is the debt that this hold has paid.
    """

    id: UUID
    source_id: str
    amount_microusd: int
    settled_microusd: int
    status: HoldStatus
    created_at: datetime
    expires_at: datetime
    closed_at: datetime | None
    shares: tuple[Share, ...] = ()
    owed_microusd: int = 0

    @property
    def left_microusd(self) -> int:
        """What it still holds while it is open."""
        return self.amount_microusd - self.settled_microusd

    @property
    def unspent(self) -> tuple[Share, ...]:
        """What of its lots wasn't spent."""
        return without(self.shares, self.settled_microusd)

    def settled_in_part(self, amount_microusd: int, *, part_id: str) -> tuple[Self, Posting]:
        """Return the open hold with this much of it spent; raise as `settled` does."""
        self._require_open()
        if amount_microusd > self.left_microusd:
            raise self._exceeded(amount_microusd, self.left_microusd)
        posting = Posting(EntryKind.SETTLE, amount_microusd, self.source_id, "used in part", self.id, part_id)
        return replace(self, settled_microusd=self.settled_microusd + amount_microusd), posting

    def settled(self, total_microusd: int, *, at: datetime) -> tuple[Self, list[Posting]]:
        """Return the settled hold and its postings: what was spent since the last part, and the rest, given back.

        Raises `SettleExceedsHold`, `SettleBelowParts`, `HoldReleased`, or `HoldSettled` when it was settled before.
        """
        self._require_open()
        if total_microusd > self.amount_microusd:
            raise self._exceeded(total_microusd, self.amount_microusd)
        last = total_microusd - self.settled_microusd
        if last < 0:
            raise SettleBelowParts(
                f"{show_usd(total_microusd)} is less than the {show_usd(self.settled_microusd)} settled in parts."
            )
        rest = self.amount_microusd - total_microusd
        postings = [Posting(EntryKind.SETTLE, last, self.source_id, "used", self.id)]
        if rest:
            postings.append(Posting(EntryKind.RELEASE, rest, self.source_id, "unused", self.id))
        return replace(self, status=HoldStatus.SETTLED, settled_microusd=total_microusd, closed_at=at), postings

    def released(self, *, reason: str, at: datetime) -> tuple[Self, Posting]:
        """Return the released hold and its posting; raise `HoldReleased` or `HoldSettled` when it is closed."""
        self._require_open()
        posting = Posting(EntryKind.RELEASE, self.left_microusd, self.source_id, reason, self.id)
        return replace(self, status=HoldStatus.RELEASED, closed_at=at), posting

    def _require_open(self) -> None:
        match self.status:
            case HoldStatus.OPEN:
                return
            case HoldStatus.RELEASED:
                raise HoldReleased(f"The credits held for {self.source_id} were released before.")
            case HoldStatus.SETTLED:
                raise HoldSettled(f"The credits held for {self.source_id} were settled before.")

    @staticmethod
    def _exceeded(wanted: int, there: int) -> SettleExceedsHold:
        return SettleExceedsHold(f"{show_usd(wanted)} can't be settled: {show_usd(there)} is held.")


@dataclass(frozen=True, slots=True)
class Charged:
    """What a charge took at once, and what it added to the debt."""

    paid_microusd: int
    owed_microusd: int


@dataclass(frozen=True, slots=True)
class Violation:
    """Something in a ledger that can't be: which rule it breaks, and the first entry at fault if it is one."""

    rule: str
    entry_id: UUID | None
    expected: int
    found: int


class LedgerBroken(Exception):
    """A tenant's credit ledger doesn't add up; the log says which rule is broken and the first entry that breaks it."""
