"""Credits never go below zero: granted + refunded - settled - expired - held = available >= 0, after every entry.

Each ledger entry moves one amount from one place to another, so that nothing appears or vanishes:

    grant    outside   -> available      hold     available -> held      settle   held -> spent
    refund   spent     -> available      release  held -> available
"""

from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Self
from uuid import UUID

from shared.kernel.errors import Conflict, InsufficientCredits, InvalidTransition, NotFound
from shared.kernel.money import show_usd


class EntryKind(StrEnum):
    """What an entry did."""

    GRANT = "grant"
    HOLD = "hold"
    SETTLE = "settle"
    RELEASE = "release"
    REFUND = "refund"

    @property
    def to_available(self) -> int:
        """+1 when the amount joins the available credits, -1 when it leaves them, 0 when they aren't touched."""
        return _TO_AVAILABLE[self]

    @property
    def to_held(self) -> int:
        """+1, -1 or 0, as for `to_available`."""
        return _TO_HELD[self]


_TO_AVAILABLE = {
    EntryKind.GRANT: 1,
    EntryKind.HOLD: -1,
    EntryKind.SETTLE: 0,
    EntryKind.RELEASE: 1,
    EntryKind.REFUND: 1,
}
_TO_HELD = {
    EntryKind.GRANT: 0,
    EntryKind.HOLD: 1,
    EntryKind.SETTLE: -1,
    EntryKind.RELEASE: -1,
    EntryKind.REFUND: 0,
}


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


class RefundExceedsSettled(Conflict):
    """More would be refunded than was paid."""

    code = "refund_exceeds_settled"


class SourceReused(Conflict):
    """One source caused two different amounts: one of them is a mistake."""

    code = "source_id_reused"


@dataclass(frozen=True, slots=True)
class Posting:
    """An entry about to be made. `source_id` names its cause: a second one of its kind for it can't be made."""

    kind: EntryKind
    amount_microusd: int
    source_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class Balance:
    """A tenant's account: the running totals of its entries, and how many there are."""

    granted_microusd: int = 0
    refunded_microusd: int = 0
    settled_microusd: int = 0
    expired_microusd: int = 0
    held_microusd: int = 0
    entries: int = 0

    @property
    def available_microusd(self) -> int:
        earned = self.granted_microusd + self.refunded_microusd
        return earned - self.settled_microusd - self.expired_microusd - self.held_microusd

    def after(self, posting: Posting) -> Self:
        """Return the balance with this posting; raise `InsufficientCredits` or `RefundExceedsSettled`."""
        amount = posting.amount_microusd
        counted = replace(self, entries=self.entries + 1)
        match posting.kind:
            case EntryKind.GRANT:
                return replace(counted, granted_microusd=self.granted_microusd + amount)
            case EntryKind.HOLD:
                if amount > self.available_microusd:
                    raise InsufficientCredits(
                        f"This needs up to {show_usd(amount)} and {show_usd(self.available_microusd)} is available. "
                        "Add credits, or ask for less.",
                    )
                return replace(counted, held_microusd=self.held_microusd + amount)
            case EntryKind.SETTLE:
                return replace(
                    counted,
                    held_microusd=self.held_microusd - amount,
                    settled_microusd=self.settled_microusd + amount,
                )
            case EntryKind.RELEASE:
                return replace(counted, held_microusd=self.held_microusd - amount)
            case EntryKind.REFUND:
                if amount > self.settled_microusd - self.refunded_microusd:
                    raise RefundExceedsSettled("No more can be refunded than was settled and not yet refunded.")
                return replace(counted, refunded_microusd=self.refunded_microusd + amount)


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
        )


@dataclass(frozen=True, slots=True)
class Hold:
    """Credits set aside for a cause; `settled_microusd` of them were spent in the end."""

    id: UUID
    source_id: str
    amount_microusd: int
    settled_microusd: int
    status: HoldStatus
    created_at: datetime
    expires_at: datetime
    closed_at: datetime | None

    def settled(self, amount_microusd: int, *, at: datetime) -> tuple[Self, list[Posting]]:
        """Return the settled hold and its postings: what was spent, and the rest, given back.

        Raises `SettleExceedsHold`, `HoldReleased`, or `HoldSettled` when it was settled before.
        """
        self._require_open()
        rest = self.amount_microusd - amount_microusd
        if rest < 0:
            raise SettleExceedsHold(
                f"{show_usd(amount_microusd)} can't be settled: {show_usd(self.amount_microusd)} is held."
            )
        postings = [Posting(EntryKind.SETTLE, amount_microusd, self.source_id, "used")]
        if rest:
            postings.append(Posting(EntryKind.RELEASE, rest, self.source_id, "unused"))
        return replace(self, status=HoldStatus.SETTLED, settled_microusd=amount_microusd, closed_at=at), postings

    def released(self, *, reason: str, at: datetime) -> tuple[Self, Posting]:
        """Return the released hold and its posting; raise `HoldReleased` or `HoldSettled` when it is closed."""
        self._require_open()
        posting = Posting(EntryKind.RELEASE, self.amount_microusd, self.source_id, reason)
        return replace(self, status=HoldStatus.RELEASED, closed_at=at), posting

    def _require_open(self) -> None:
        match self.status:
            case HoldStatus.OPEN:
                return
            case HoldStatus.RELEASED:
                raise HoldReleased(f"The credits held for {self.source_id} were released before.")
            case HoldStatus.SETTLED:
                raise HoldSettled(f"The credits held for {self.source_id} were settled before.")


@dataclass(frozen=True, slots=True)
class Violation:
    """Something in a ledger that can't be: which rule it breaks, and the first entry at fault if it is one."""

    rule: str
    entry_id: UUID | None
    expected: int
    found: int
