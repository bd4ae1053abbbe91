"""Operations on a credit ledger in a random mix: most of them possible, some too late, some delivered twice."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

from tests.integration.billing.ledger_worker import Operation

# What can be done, and how often it is compared with the others.
MAKERS = {
    "grant": 12,
    "hold": 30,
    "settle": 16,
    "settle_part": 10,
    "release": 8,
    "refund": 4,
    "adjust": 6,
    "charge": 8,
    "expire": 3,
    "release_expired": 3,
}
_LOTS = ("purchase", "plan", "promo")
_AGAIN = 0.12
# Holds of which one is settled or released, most of the time while it is open.
_RECENT = 12


@dataclass(slots=True)
class Mix:
    """Makes up operations for one tenant; what it has sent may be sent again, by `again`."""

    org_id: UUID
    chance: random.Random
    sent: list[Operation] = field(default_factory=list)
    holds: list[Operation] = field(default_factory=list)

    def next(self, at: datetime) -> Operation:
        """Return an operation at this moment: one in eight is an earlier one, delivered again."""
        if self.sent and self.chance.random() < _AGAIN:
            return self.again(at)
        (name,) = self.chance.choices(list(MAKERS), weights=list(MAKERS.values()))
        return self.make(name, at)

    def make(self, name: str, at: datetime) -> Operation:
        """Return an operation of this name that wasn't sent before."""
        make: Callable[[datetime], Operation] = getattr(self, f"_{name}")
        made = make(at)
        self.sent.append(made)
        if name == "hold":
            self.holds.append(made)
        return made

    def again(self, at: datetime) -> Operation:
        return replace(self.chance.choice(self.sent), at=at)

    def _grant(self, at: datetime) -> Operation:
        ends = at + timedelta(seconds=self.chance.randint(1, 300)) if self.chance.random() < 0.5 else None
        priority = self.chance.choice([None, None, 1, 120])
        made = self._new("grant", at, self.chance.randint(1, 400))
        return replace(made, lot_kind=self.chance.choice(_LOTS), expires_at=ends, priority=priority)

    def _hold(self, at: datetime) -> Operation:
        ends = at + timedelta(seconds=self.chance.randint(-5, 200))
        return replace(self._new("hold", at, self.chance.randint(0, 150)), expires_at=ends)

    def _settle(self, at: datetime) -> Operation:
        held = self._held()
        return replace(self._new("settle", at, self._up_to(held.amount)), source_id=held.source_id)

    def _settle_part(self, at: datetime) -> Operation:
        held = self._held()
        made = self._new("settle_part", at, self._up_to(held.amount // 2))
        return replace(made, source_id=held.source_id, part_id=f"step:{self.chance.randint(1, 3)}")

    def _release(self, at: datetime) -> Operation:
        return replace(self._new("release", at, 0), source_id=self._held().source_id)

    def _refund(self, at: datetime) -> Operation:
        return self._new("refund", at, self.chance.randint(1, 40))

    def _adjust(self, at: datetime) -> Operation:
        return self._new("adjust", at, self.chance.choice([-1, 1]) * self.chance.randint(1, 60))

    def _charge(self, at: datetime) -> Operation:
        return self._new("charge", at, self.chance.randint(0, 120))

    def _expire(self, at: datetime) -> Operation:
        return Operation("expire", self.org_id, at)

    def _release_expired(self, at: datetime) -> Operation:
        return Operation("release_expired", self.org_id, at)

    def _new(self, name: str, at: datetime, amount: int) -> Operation:
        return Operation(name, self.org_id, at, source_id=f"{name}:{len(self.sent)}", amount=amount)

    def _held(self) -> Operation:
        nobody_s = Operation("hold", self.org_id, datetime.now(UTC), source_id="hold:unknown", amount=50)
        return self.chance.choice([*self.holds[-_RECENT:], nobody_s] if self.holds else [nobody_s])

    def _up_to(self, amount: int) -> int:
        """Return an amount of which a few are too much."""
        return self.chance.randint(0, amount + max(1, amount // 20))
