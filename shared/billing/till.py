"""A till: a tenant's locked account, at which any number of holds are closed and opened by few statements.

What comes of each is the same as if it were done by itself, one after the other.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Self

from shared.billing import store
from shared.billing.change import Change
from shared.billing.lots import Lot, Purse
from shared.billing.model import Entry, Hold, HoldNotFound, HoldReleased, HoldStatus
from shared.billing.moves import EntryKind
from shared.kernel import clock
from shared.kernel.caller import Caller
from shared.kernel.db import Tx
from shared.kernel.errors import InsufficientCredits, RunyardError
from shared.kernel.telemetry import logger, measure


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldAsked:
    """Credits to be set aside until they are settled or released, at the latest some time after `expires_at`."""

    source_id: str
    amount_microusd: int
    expires_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """How much of what its source holds was spent in all; None gives all of it back that wasn't settled in parts."""

    source_id: str
    amount_microusd: int | None


class Till:
    """`ask` sends the questions, in a pipeline; the first `settle` or `hold` waits for the answers; `write` ends it."""

    def __init__(self, tx: Tx, asked: store.AskedToMove, holds: Sequence[HoldAsked]) -> None:
        self._tx = tx
        self._asked = asked
        self._wanted = sum(hold.amount_microusd for hold in holds)
        self._change: Change | None = None
        self._holds: dict[str, Hold] = {}
        self._lots: list[Lot] = []
        self._purse: Purse | None = None

    @classmethod
    def ask(cls, tx: Tx, caller: Caller, settlements: Sequence[Settlement], holds: Sequence[HoldAsked]) -> Self:
        """Lock the account and look up all that these settlements and holds need."""
        for amount in [hold.amount_microusd for hold in holds] + [each.amount_microusd or 0 for each in settlements]:
            if amount < 0:
                raise ValueError(f"less than nothing can't be held or spent: {amount}")
        closing = [each.source_id for each in settlements]
        return cls(tx, store.ask_to_move(tx, caller.org_id, closing, [hold.source_id for hold in holds]), holds)

    def settle(self, asked: Settlement) -> Entry:
        """Do as `ledger.settle` and `ledger.release` do; what is raised has changed nothing."""
        change, held = self._read(), self._holds.get(asked.source_id)
        if held is None:
            raise HoldNotFound(f"No credits were ever held for {asked.source_id}.")
        if asked.amount_microusd is None:
            if held.status is HoldStatus.RELEASED:
                return self._first(EntryKind.RELEASE, asked.source_id)
            closed, posting = held.released(reason="released", at=change.now)
            postings = [posting]
        else:
            if held.status is HoldStatus.SETTLED and held.settled_microusd == asked.amount_microusd:
                return self._first(EntryKind.SETTLE, asked.source_id)
            refuse_late(held, asked.amount_microusd)
            closed, postings = held.settled(asked.amount_microusd, at=change.now)
        entries = change.close(closed, postings)
        self._holds[asked.source_id] = closed
        # It may have given credits back.
        self._purse = None
        return entries[0]

    def hold(self, asked: HoldAsked) -> Hold:
        """Do as `ledger.hold` does; what is raised has changed nothing."""
        change, first = self._read(), self._holds.get(asked.source_id)
        if first is not None:
            return first
        if self._purse is None:
            self._purse = Purse(self._lots, change.moved)
        purse = self._purse
        over = purse.ended(change.now)
        change.balance.without(sum(lot.remaining_microusd for lot in over)).require(asked.amount_microusd)
        for lot in over:
            change.expire(lot.id, lot.remaining_microusd)
        if over:
            purse = self._purse = Purse(self._lots, change.moved)
        shares = purse.take(asked.amount_microusd)
        opened = change.open(
            asked.source_id, shares, amount_microusd=asked.amount_microusd, expires_at=asked.expires_at
        )
        self._holds[asked.source_id] = opened
        return opened

    @property
    def available_microusd(self) -> int:
        """What could be held now."""
        change = self._read()
        purse = self._purse or Purse(self._lots, change.moved)
        return change.balance.available_microusd - sum(lot.remaining_microusd for lot in purse.ended(change.now))

    def write(self) -> None:
        """Send what was done; whatever follows in the transaction sees it."""
        if self._change is not None and self._change.entries:
            store.write(self._tx, self._change)

    def _read(self) -> Change:
        if self._change is None:
            balance, holds, self._lots = store.answer_to_move(self._tx, self._asked, self._wanted, now=clock.now)
            self._holds = {hold.source_id: hold for hold in holds}
            self._change = Change(balance, clock.now())
        return self._change

    def _first(self, kind: EntryKind, source_id: str) -> Entry:
        for entry in self._read().entries:
            if (entry.kind, entry.source_id, entry.part_id) == (kind, source_id, ""):
                return entry
        first = store.find_entry(self._tx, kind, source_id)
        assert first is not None  # noqa: S101 - written in the transaction that closed the hold
        return first


def hold_many(tx: Tx, caller: Caller, holds: Sequence[HoldAsked]) -> list[Hold | InsufficientCredits]:
    """Hold each of these in turn, as `ledger.hold` does; whoever finds too little changes nothing."""
    if not holds:
        return []
    held: list[Hold | InsufficientCredits] = []
    with tx.pipeline():
        till = Till.ask(tx, caller, (), holds)
        for asked in holds:
            try:
                held.append(till.hold(asked))
            except InsufficientCredits as refusal:
                held.append(refusal)
        till.write()
    return held


def settle_many(tx: Tx, caller: Caller, settlements: Sequence[Settlement]) -> list[Entry | RunyardError]:
    """Settle or release each of these in turn, as `ledger.settle` and `ledger.release` do."""
    if not settlements:
        return []
    settled: list[Entry | RunyardError] = []
    with tx.pipeline():
        till = Till.ask(tx, caller, settlements, ())
        for asked in settlements:
            try:
                settled.append(till.settle(asked))
            except RunyardError as refusal:
                settled.append(refusal)
        till.write()
    return settled


def refuse_late(held: Hold, amount_microusd: int) -> None:
    """Raise `HoldReleased` for a settlement that comes after its hold was given back, and tell the operator."""
    # The reaper gave up on this work while it went on: somebody has to look, so the log and an alarm say so.
    if held.status is HoldStatus.RELEASED:
        facts = {"source_id": held.source_id, "cost_microusd": amount_microusd}
        logger.error("hold released before settlement", extra=facts)
        # One name for all functions in which it can happen: an alarm watches one set of dimensions.
        measure("LateSettlement", 1, service="credits")
        raise HoldReleased(f"The credits held for {held.source_id} were released before.")
