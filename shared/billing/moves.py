"""Each ledger entry moves one amount from one place to another, so that nothing appears or vanishes.

grant      outside -> available      hold     available -> held      adjust_up    outside   -> available
refund     spent   -> available      release  held -> available      adjust_down  available -> outside
settle     held    -> spent          expire   available -> expired
"""

from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID


class Place(StrEnum):
    """Where credits can be; `outside` is whoever gives them."""

    OUTSIDE = "outside"
    AVAILABLE = "available"
    HELD = "held"
    SPENT = "spent"
    EXPIRED = "expired"


class EntryKind(StrEnum):
    """What an entry did."""

    GRANT = "grant"
    HOLD = "hold"
    SETTLE = "settle"
    RELEASE = "release"
    REFUND = "refund"
    EXPIRE = "expire"
    ADJUST_UP = "adjust_up"
    ADJUST_DOWN = "adjust_down"

    @property
    def moves(self) -> tuple[Place, Place]:
        """From where to where the amount goes."""
        return _MOVES[self]

    @property
    def to_available(self) -> int:
        """+1 when the amount joins the available credits, -1 when it leaves them, 0 when they aren't touched."""
        return self._to(Place.AVAILABLE)

    @property
    def to_held(self) -> int:
        """+1, -1 or 0, as for `to_available`."""
        return self._to(Place.HELD)

    def _to(self, place: Place) -> int:
        origin, goal = self.moves
        return (goal is place) - (origin is place)


_MOVES = {
    EntryKind.GRANT: (Place.OUTSIDE, Place.AVAILABLE),
    EntryKind.HOLD: (Place.AVAILABLE, Place.HELD),
    EntryKind.SETTLE: (Place.HELD, Place.SPENT),
    EntryKind.RELEASE: (Place.HELD, Place.AVAILABLE),
    EntryKind.REFUND: (Place.SPENT, Place.AVAILABLE),
    EntryKind.EXPIRE: (Place.AVAILABLE, Place.EXPIRED),
    EntryKind.ADJUST_UP: (Place.OUTSIDE, Place.AVAILABLE),
    EntryKind.ADJUST_DOWN: (Place.AVAILABLE, Place.OUTSIDE),
}


@dataclass(frozen=True, slots=True)
class Posting:
    """An entry about to be made. `source_id` names its cause: a second one of its kind for it can't be made.

    Where one cause has several, a settlement in parts or a lot that ends twice, `part_id` tells them apart.
    `subject_id` is the hold or the lot that the entry is about; an adjustment downwards is about no single one.
    """

    kind: EntryKind
    amount_microusd: int
    source_id: str
    reason: str
    subject_id: UUID | None
    part_id: str = ""
