"""A tenant's credits by a model of a few lines, which knows nothing of SQL, locks or processes."""

from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from shared.billing.model import Entry
from shared.kernel import ids
from tests.integration.billing.ledger_worker import Operation

PRIORITY = {"promo": 50, "plan": 100, "adjustment": 150, "purchase": 200, "refund": 200}
# Stands for the entry that brought the credits from which a debt is paid.
OWED = "owed:"
# The number of the first of the entries that are made.
FIRST_MADE = -1


@dataclass(frozen=True, slots=True)
class Step:
    """One entry that has to be made; an empty `reason` is any."""

    kind: str
    amount: int
    source_id: str
    part_id: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """What an operation answers: a refusal, or the entries that are made now and what is said."""

    refused: str = ""
    steps: tuple[Step, ...] = ()
    said: tuple[object, ...] = ()


@dataclass(slots=True)
class Lot:
    id: UUID
    priority: int
    expires_at: datetime | None
    remaining: int

    def ended(self, now: datetime) -> bool:
        return self.expires_at is not None and self.expires_at <= now


@dataclass(slots=True)
class Held:
    id: UUID
    amount: int
    expires_at: datetime
    shares: list[tuple[Lot, int]]
    spent: int = 0
    status: str = "open"
    owed: int = 0
    parts: dict[str, int] = field(default_factory=dict)

    @property
    def left(self) -> int:
        return self.amount - self.spent


@dataclass(slots=True)
class Model:
    """One tenant's account."""

    granted: int = 0
    refunded: int = 0
    settled: int = 0
    expired: int = 0
    held: int = 0
    owed: int = 0
    entries: int = 0
    lots: dict[UUID, Lot] = field(default_factory=dict)
    holds: dict[str, Held] = field(default_factory=dict)
    # By kind, source and part: number and amount.
    made: dict[tuple[str, str, str], tuple[int, int]] = field(default_factory=dict)
    _usable: tuple[datetime, int] | None = None

    @property
    def available(self) -> int:
        return self.granted + self.refunded - self.settled - self.expired - self.held

    def usable(self, now: datetime) -> int:
        """What is available in lots that aren't over."""
        if self._usable is None or self._usable[0] != now:
            self._usable = (now, sum(lot.remaining for lot in self.lots.values() if not lot.ended(now)))
        return self._usable[1]

    def answer(self, asked: Operation) -> Answer:
        """Return what this operation would answer now; nothing changes."""
        return getattr(self, f"_{asked.name}")(asked)  # type: ignore[no-any-return]

    def _grant(self, asked: Operation) -> Answer:
        if again := self._again(asked, "grant"):
            return again
        if asked.expires_at is not None and asked.expires_at <= asked.at:
            return Answer(refused="invalid_request")
        return self._added(asked, "grant")

    def _refund(self, asked: Operation) -> Answer:
        if again := self._again(asked, "refund"):
            return again
        if asked.amount > self.settled - self.refunded:
            return Answer(refused="refund_exceeds_settled")
        return self._added(asked, "refund")

    def _adjust(self, asked: Operation) -> Answer:
        up = asked.amount > 0
        if again := self._again(asked, "adjust_up" if up else "adjust_down"):
            return again
        if up:
            return self._added(asked, "adjust_up")
        if -asked.amount > self.usable(asked.at):
            return Answer(refused="adjustment_exceeds_available")
        return _made(Step("adjust_down", -asked.amount, asked.source_id))

    def _again(self, asked: Operation, kind: str) -> Answer | None:
        first = self.made.get((kind, asked.source_id, ""))
        if first is None:
            return None
        number, amount = first
        same = amount == abs(asked.amount)
        return Answer(said=("entry", number)) if same else Answer(refused="source_id_reused")

    def _added(self, asked: Operation, kind: str) -> Answer:
        added = Step(kind, asked.amount, asked.source_id)
        if not self.owed:
            return _made(added)
        paid = min(self.owed, self.usable(asked.at) + asked.amount)
        return _made(added, Step("hold", paid, OWED), Step("settle", paid, OWED))

    def _charge(self, asked: Operation) -> Answer:
        if asked.amount == 0:
            return Answer(said=("charged", 0, 0))
        if first := self.holds.get(asked.source_id):
            same = first.spent + first.owed == asked.amount
            return Answer(said=("charged", first.spent, first.owed)) if same else Answer(refused="source_id_reused")
        paid = min(asked.amount, self.usable(asked.at))
        steps = (Step("hold", paid, asked.source_id), Step("settle", paid, asked.source_id))
        return Answer(steps=steps, said=("charged", paid, asked.amount - paid))

    def _hold(self, asked: Operation) -> Answer:
        if held := self.holds.get(asked.source_id):
            return Answer(said=("hold", held.amount))
        if asked.amount > self.usable(asked.at):
            return Answer(refused="insufficient_credits")
        return Answer(steps=(Step("hold", asked.amount, asked.source_id),), said=("hold", asked.amount))

    def _settle_part(self, asked: Operation) -> Answer:
        held = self.holds.get(asked.source_id)
        if held is None:
            return Answer(refused="hold_not_found")
        if asked.part_id in held.parts:
            same = held.parts[asked.part_id] == asked.amount
            number, _ = self.made["settle", asked.source_id, asked.part_id]
            return Answer(said=("entry", number)) if same else Answer(refused="source_id_reused")
        if held.status != "open":
            return Answer(refused=f"hold_{held.status}")
        if asked.amount > held.left:
            return Answer(refused="settle_exceeds_hold")
        return _made(Step("settle", asked.amount, asked.source_id, asked.part_id))

    def _settle(self, asked: Operation) -> Answer:
        held = self.holds.get(asked.source_id)
        if held is None:
            return Answer(refused="hold_not_found")
        if held.status == "settled" and held.spent == asked.amount:
            return Answer(said=("entry", self.made["settle", asked.source_id, ""][0]))
        if held.status != "open":
            return Answer(refused=f"hold_{held.status}")
        if asked.amount > held.amount:
            return Answer(refused="settle_exceeds_hold")
        if asked.amount < held.spent:
            return Answer(refused="settle_below_parts")
        last = Step("settle", asked.amount - held.spent, asked.source_id)
        rest = held.amount - asked.amount
        return _made(last, Step("release", rest, asked.source_id, reason="unused")) if rest else _made(last)

    def _release(self, asked: Operation) -> Answer:
        held = self.holds.get(asked.source_id)
        if held is None:
            return Answer(refused="hold_not_found")
        if held.status == "settled":
            return Answer(refused="hold_settled")
        if held.status == "released":
            return Answer(said=("entry", self.made["release", asked.source_id, ""][0]))
        return _made(Step("release", held.left, asked.source_id, reason="released"))

    def _release_expired(self, asked: Operation) -> Answer:
        late = [source for source, held in self.holds.items() if self.overdue(source, asked.at)]
        late.sort(key=lambda source: self.holds[source].id)
        steps = tuple(Step("release", self.holds[source].left, source, reason="expired") for source in late)
        return Answer(steps=steps, said=("count", len(steps)))

    def _expire(self, asked: Operation) -> Answer:
        over = [lot for lot in self.lots.values() if lot.remaining and lot.ended(asked.at)]
        over.sort(key=lambda lot: (lot.expires_at, lot.id))
        steps = tuple(Step("expire", lot.remaining, ids.show("lot", lot.id)) for lot in over)
        return Answer(steps=steps, said=("count", len(steps)))

    def overdue(self, source: str, now: datetime) -> bool:
        held = self.holds.get(source)
        return held is not None and held.status == "open" and held.expires_at < now

    def is_over(self, entry: Entry, now: datetime) -> bool:
        """Return whether the lot that an entry is about is over, whoever noticed it."""
        return entry.subject_id in self.lots and self.lots[entry.subject_id].ended(now)

    def may_expire(self, entry: Entry, now: datetime) -> bool:
        """Return whether the lot is over and has as much to lose."""
        if not self.is_over(entry, now) or entry.subject_id is None:
            return False
        return 0 < entry.amount_microusd <= self.lots[entry.subject_id].remaining

    def take(self, entry: Entry, asked: Operation) -> None:
        """Let an entry take effect."""
        self.entries += 1
        self.made[str(entry.kind), entry.source_id, entry.part_id] = (self.entries, entry.amount_microusd)
        self._usable = None
        match str(entry.kind):
            case "grant" | "refund" | "adjust_up":
                self._add(entry, asked)
            case "adjust_down":
                self.granted -= entry.amount_microusd
                self._spend_lots(entry.amount_microusd, asked.at)
            case "hold":
                self._open(entry, asked)
            case "settle":
                self._spend(entry)
            case "release":
                self._give_back(entry)
            case "expire":
                assert entry.subject_id is not None
                self.expired += entry.amount_microusd
                self.lots[entry.subject_id].remaining -= entry.amount_microusd

    def _add(self, entry: Entry, asked: Operation) -> None:
        if entry.kind == "refund":
            self.refunded += entry.amount_microusd
        else:
            self.granted += entry.amount_microusd
        kind = {"refund": "refund", "adjust": "adjustment"}.get(asked.name, asked.lot_kind or "purchase")
        priority = PRIORITY[kind] if asked.priority is None else asked.priority
        assert entry.subject_id is not None
        self.lots[entry.subject_id] = Lot(entry.subject_id, priority, asked.expires_at, entry.amount_microusd)

    def _open(self, entry: Entry, asked: Operation) -> None:
        amount = entry.amount_microusd
        self.held += amount
        shares = self._spend_lots(amount, asked.at)
        assert entry.subject_id is not None
        opened = Held(entry.subject_id, amount, asked.expires_at or asked.at, shares)
        if asked.name != "hold":
            opened.owed = asked.amount - amount if asked.name == "charge" else -amount
            self.owed += opened.owed
        self.holds[entry.source_id] = opened

    def _spend(self, entry: Entry) -> None:
        self.held -= entry.amount_microusd
        self.settled += entry.amount_microusd
        held = self.holds[entry.source_id]
        held.spent += entry.amount_microusd
        if entry.part_id:
            held.parts[entry.part_id] = entry.amount_microusd
        else:
            held.status = "settled"

    def _give_back(self, entry: Entry) -> None:
        self.held -= entry.amount_microusd
        held = self.holds[entry.source_id]
        spent = held.spent
        for lot, amount in held.shares:
            used = min(amount, spent)
            spent -= used
            lot.remaining += amount - used
        if held.status == "open":
            held.status = "released"

    def _spend_lots(self, amount: int, now: datetime) -> list[tuple[Lot, int]]:
        """Take this much from the lots: of the lowest priority first, then what ends first, then what came first."""
        shares = []
        for lot in sorted((lot for lot in self.lots.values() if lot.remaining and not lot.ended(now)), key=_order):
            given = min(lot.remaining, amount)
            if given:
                lot.remaining -= given
                amount -= given
                shares.append((lot, given))
        return shares


def _order(lot: Lot) -> tuple[int, bool, float, UUID]:
    ends = 0.0 if lot.expires_at is None else lot.expires_at.timestamp()
    return lot.priority, lot.expires_at is None, ends, lot.id


def _made(*steps: Step) -> Answer:
    return Answer(steps=steps, said=("entry", FIRST_MADE))
