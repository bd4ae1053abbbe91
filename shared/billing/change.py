"""One change of a tenant's account: its entries, the balance they lead to, and the lots and holds behind them."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime
from uuid import UUID

from shared.billing.lots import Lot, Share, take
from shared.billing.model import Balance, Entry, Hold, HoldStatus
from shared.billing.moves import EntryKind, Posting
from shared.kernel import ids


@dataclass(slots=True)
class Change:
    """Collects what the store then writes at once. `balance` begins as the locked account and follows each entry."""

    balance: Balance
    now: datetime
    entries: list[Entry] = field(default_factory=list)
    made: Lot | None = None
    opened: list[Hold] = field(default_factory=list)
    closed: list[Hold] = field(default_factory=list)
    # By lot: what joins or leaves the credits that can be spent; and the part of it that an adjustment took away.
    moved: dict[UUID, int] = field(default_factory=dict)
    withdrawn: dict[UUID, int] = field(default_factory=dict)

    def post(self, posting: Posting) -> Entry:
        """Add the entry of this posting; raise as `Balance.after` does."""
        self.balance = self.balance.after(posting)
        entry = Entry.of(posting, self.balance, entry_id=ids.new(), created_at=self.now)
        self.entries.append(entry)
        return entry

    def without_ended(self, lots: Iterable[Lot]) -> list[Lot]:
        """Let the lots that are over expire, and return the others: the end counts, not when somebody noticed it."""
        usable = []
        for lot in lots:
            if lot.ended(self.now):
                self.expire(lot.id, lot.remaining_microusd)
            else:
                usable.append(lot)
        return usable

    def expire(self, lot_id: UUID, amount_microusd: int) -> None:
        """Take from a lot what nobody may spend any more. A lot can expire again: by what was held at its end."""
        self._move(lot_id, -amount_microusd)
        number = str(self.balance.entries + 1)
        self.post(Posting(EntryKind.EXPIRE, amount_microusd, ids.show("lot", lot_id), "expired", lot_id, number))

    def make(self, lot: Lot) -> None:
        """Add a lot of credits that came in."""
        self.made = lot

    def open(self, source_id: str, shares: tuple[Share, ...], *, amount_microusd: int, expires_at: datetime) -> Hold:
        """Hold what was taken from these lots."""
        opened = Hold(
            id=ids.new(),
            source_id=source_id,
            amount_microusd=amount_microusd,
            settled_microusd=0,
            status=HoldStatus.OPEN,
            created_at=self.now,
            expires_at=expires_at,
            closed_at=None,
            shares=shares,
        )
        _must_add_up(shares, amount_microusd)
        self.post(Posting(EntryKind.HOLD, amount_microusd, source_id, "reserved", opened.id))
        self.opened.append(opened)
        for share in shares:
            self._move(share.lot_id, -share.amount_microusd)
        return opened

    def spend(self, source_id: str, lots: list[Lot], *, amount_microusd: int, reason: str, owed_microusd: int) -> Hold:
        """Hold and settle this much of these lots at once; `owed_microusd` is added to the debt."""
        shares = take(lots, amount_microusd)
        opened = self.open(source_id, shares, amount_microusd=amount_microusd, expires_at=self.now)
        closed, postings = opened.settled(amount_microusd, at=self.now)
        # It is stored as it ends.
        self.opened[-1] = replace(closed, owed_microusd=owed_microusd)
        self.post(replace(postings[0], reason=reason))
        self.balance = replace(self.balance, owed_microusd=self.balance.owed_microusd + owed_microusd)
        return self.opened[-1]

    def close(self, hold: Hold, postings: Iterable[Posting]) -> list[Entry]:
        """Close a hold, and give what of it wasn't spent back to its lots; to those that are over only to expire."""
        self.closed.append(hold)
        entries = [self.post(posting) for posting in postings]
        for share in hold.unspent:
            self._move(share.lot_id, share.amount_microusd)
            if share.ended(self.now):
                self.expire(share.lot_id, share.amount_microusd)
        return entries

    def spend_part(self, hold: Hold, posting: Posting) -> Entry:
        """Spend a part of a hold that stays open."""
        self.closed.append(hold)
        return self.post(posting)

    def withdraw(self, shares: tuple[Share, ...], *, amount_microusd: int) -> None:
        """Take these credits out of their lots for good."""
        _must_add_up(shares, amount_microusd)
        for share in shares:
            self._move(share.lot_id, -share.amount_microusd)
            self.withdrawn[share.lot_id] = share.amount_microusd

    def _move(self, lot_id: UUID, by: int) -> None:
        self.moved[lot_id] = self.moved.get(lot_id, 0) + by


def _must_add_up(shares: tuple[Share, ...], amount_microusd: int) -> None:
    if sum(share.amount_microusd for share in shares) != amount_microusd:
        raise RuntimeError("a tenant's lots don't add up to its available credits: run the ledger's check")
