"""A lot is what one grant, refund or adjustment brought; what is available lies in lots, and is spent lot by lot."""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from uuid import UUID


class LotKind(StrEnum):
    """Where the credits of a lot came from."""

    PURCHASE = "purchase"
    PLAN = "plan"
    PROMO = "promo"
    REFUND = "refund"
    ADJUSTMENT = "adjustment"

    @property
    def priority(self) -> int:
        """What is given for a while goes before what was paid for: the lower, the sooner it is spent."""
        return _PRIORITY[self]


_PRIORITY = {
    LotKind.PROMO: 50,
    LotKind.PLAN: 100,
    LotKind.ADJUSTMENT: 150,
    LotKind.PURCHASE: 200,
    LotKind.REFUND: 200,
}


@dataclass(frozen=True, slots=True)
class Lot:
    """Credits of one origin; `remaining_microusd` of them can be spent, until `expires_at` if that is set."""

    id: UUID
    kind: LotKind
    source_id: str
    priority: int
    amount_microusd: int
    remaining_microusd: int
    expires_at: datetime | None
    created_at: datetime

    def ended(self, now: datetime) -> bool:
        """Return whether nothing of it may be spent any more."""
        return self.expires_at is not None and self.expires_at <= now

    def spent_before(self) -> tuple[int, bool, float, UUID]:
        """Sort lots by this in the order in which they are spent: priority, end (none is last), age."""
        ends = 0.0 if self.expires_at is None else self.expires_at.timestamp()
        return self.priority, self.expires_at is None, ends, self.id


@dataclass(frozen=True, slots=True)
class Share:
    """What a hold took from one lot, and when that lot ends."""

    lot_id: UUID
    amount_microusd: int
    expires_at: datetime | None

    def ended(self, now: datetime) -> bool:
        """Return whether its lot is over: what is given back to it then expires at once."""
        return self.expires_at is not None and self.expires_at <= now


@dataclass(frozen=True, slots=True)
class NextExpiry:
    """How much is lost at the next end of a lot if it isn't spent before."""

    amount_microusd: int
    at: datetime


class Purse:
    """The lots of an account in the order in which they are spent, which get less with each `take`.

    `moved`: by lot, what has joined or left it since the lots were read.
    """

    def __init__(self, lots: Iterable[Lot], moved: Mapping[UUID, int]) -> None:
        now = [replace(lot, remaining_microusd=lot.remaining_microusd + moved.get(lot.id, 0)) for lot in lots]
        self._lots = deque(lot for lot in now if lot.remaining_microusd > 0)

    def ended(self, now: datetime) -> list[Lot]:
        """Return those that are over: they must expire before anything is taken."""
        return [lot for lot in self._lots if lot.ended(now)]

    def take(self, amount_microusd: int) -> tuple[Share, ...]:
        """Return what each lot gives towards the amount; less than it if they lack as much."""
        shares = []
        while amount_microusd > 0 and self._lots:
            lot = self._lots[0]
            given = min(lot.remaining_microusd, amount_microusd)
            shares.append(Share(lot.id, given, lot.expires_at))
            amount_microusd -= given
            if given == lot.remaining_microusd:
                self._lots.popleft()
            else:
                self._lots[0] = replace(lot, remaining_microusd=lot.remaining_microusd - given)
        return tuple(shares)


def take(lots: Iterable[Lot], amount_microusd: int) -> tuple[Share, ...]:
    """Return what each of these lots, in their order, gives towards the amount; less than it if they lack as much."""
    shares = []
    for lot in lots:
        given = min(lot.remaining_microusd, amount_microusd)
        if given > 0:
            shares.append(Share(lot.id, given, lot.expires_at))
            amount_microusd -= given
    return tuple(shares)


def without(shares: Sequence[Share], spent_microusd: int) -> tuple[Share, ...]:
    """Return what is left of the shares after so much was spent: they are used up one after the other."""
    left = []
    for share in shares:
        used = min(share.amount_microusd, spent_microusd)
        spent_microusd -= used
        if share.amount_microusd > used:
            left.append(Share(share.lot_id, share.amount_microusd - used, share.expires_at))
    return tuple(left)


def total(lots: Iterable[Lot]) -> int:
    """Return what is left in these lots."""
    return sum(lot.remaining_microusd for lot in lots)
