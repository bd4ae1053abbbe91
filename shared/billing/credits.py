"""Credits that come in or are taken away by somebody's decision: grants, refunds, adjustments."""

from datetime import datetime

from shared.audit import service as audit
from shared.billing import lots_store, store
from shared.billing.change import Change
from shared.billing.lots import Lot, LotKind, take, total
from shared.billing.model import Entry, SourceReused
from shared.billing.moves import EntryKind, Posting
from shared.kernel import clock, ids
from shared.kernel.caller import Caller
from shared.kernel.db import Tx
from shared.kernel.errors import InvalidRequest
from shared.kernel.money import MICROUSD_PER_USD, show_usd

# Far above any payment, and far below where the sums of an account would not fit into 64 bits.
MOST_MICROUSD = 1_000_000_000 * MICROUSD_PER_USD


def grant(
    tx: Tx,
    caller: Caller,
    *,
    amount_microusd: int,
    source_id: str,
    reason: str,
    kind: LotKind = LotKind.PURCHASE,
    expires_at: datetime | None = None,
    priority: int | None = None,
) -> Entry:
    """Add a lot of credits to the caller's org; what the org owes is paid from them at once.

    Lots of lower `priority` are spent first, by default as their kind says; then those that end first. Raises
    `SourceReused` when this source granted another amount before, `InvalidRequest` for an end that has passed.
    """
    priority = kind.priority if priority is None else priority
    return _add(tx, caller, EntryKind.GRANT, amount_microusd, source_id, reason, kind, priority, expires_at)


def refund(tx: Tx, caller: Caller, *, amount_microusd: int, source_id: str, reason: str) -> Entry:
    """Give back credits that were settled; `source_id` names the refund.

    Raises `RefundExceedsSettled`, and `SourceReused` as `grant` does.
    """
    kind = LotKind.REFUND
    return _add(tx, caller, EntryKind.REFUND, amount_microusd, source_id, reason, kind, kind.priority)


def adjust(tx: Tx, caller: Caller, *, amount_microusd: int, source_id: str, reason: str) -> Entry:
    """Correct a balance: above zero a lot is added, below zero credits are taken from the lots.

    Raises `AdjustmentExceedsAvailable`, and `SourceReused` as `grant` does.
    """
    if amount_microusd == 0:
        raise InvalidRequest("amount_microusd: must not be 0.", param="amount_microusd")
    if amount_microusd < 0:
        return _take_away(tx, caller, -amount_microusd, source_id, reason)
    kind = LotKind.ADJUSTMENT
    return _add(tx, caller, EntryKind.ADJUST_UP, amount_microusd, source_id, reason, kind, kind.priority)


def _add(
    tx: Tx,
    caller: Caller,
    kind: EntryKind,
    amount_microusd: int,
    source_id: str,
    reason: str,
    lot_kind: LotKind,
    priority: int,
    expires_at: datetime | None = None,
) -> Entry:
    _require_amount(amount_microusd)
    before, first = store.lock_for_entry(tx, caller.org_id, _ALIKE[kind], source_id)
    if first is not None:
        return same(first, kind, amount_microusd)
    change = Change(before, clock.now())
    if expires_at is not None and expires_at <= change.now:
        raise InvalidRequest("expires_at: must lie in the future.", param="expires_at")
    lot = Lot(
        id=ids.new(),
        kind=lot_kind,
        source_id=source_id,
        priority=priority,
        amount_microusd=amount_microusd,
        remaining_microusd=amount_microusd,
        expires_at=expires_at,
        created_at=change.now,
    )
    entry = change.post(Posting(kind, amount_microusd, source_id, reason, lot.id))
    change.make(lot)
    _collect(tx, change, entry, lot)
    store.post(tx, change)
    _record(tx, caller, entry)
    return entry


def _collect(tx: Tx, change: Change, entry: Entry, lot: Lot) -> None:
    """Pay what is owed with what is available now, the new lot included."""
    if not change.balance.owed_microusd:
        return
    lots = change.without_ended(lots_store.to_spend(tx))
    lots = sorted([*lots, lot], key=Lot.spent_before)
    paid = min(change.balance.owed_microusd, total(lots))
    source_id = f"owed:{ids.show('entry', entry.id)}"
    change.spend(source_id, lots, amount_microusd=paid, reason="owed from before", owed_microusd=-paid)


def _take_away(tx: Tx, caller: Caller, amount_microusd: int, source_id: str, reason: str) -> Entry:
    kind = EntryKind.ADJUST_DOWN
    _require_amount(amount_microusd)
    before, first = store.lock_for_entry(tx, caller.org_id, _ALIKE[kind], source_id)
    if first is not None:
        return same(first, kind, amount_microusd)
    change = Change(before, clock.now())
    lots = change.without_ended(lots_store.to_spend(tx))
    entry = change.post(Posting(kind, amount_microusd, source_id, reason, None))
    change.withdraw(take(lots, amount_microusd), amount_microusd=amount_microusd)
    store.post(tx, change)
    _record(tx, caller, entry)
    return entry


# An adjustment goes one way: the same source can't go the other way as well.
_ADJUSTMENTS = (EntryKind.ADJUST_UP, EntryKind.ADJUST_DOWN)
_ALIKE = {
    EntryKind.GRANT: (EntryKind.GRANT,),
    EntryKind.REFUND: (EntryKind.REFUND,),
    EntryKind.ADJUST_UP: _ADJUSTMENTS,
    EntryKind.ADJUST_DOWN: _ADJUSTMENTS,
}


def same(first: Entry, kind: EntryKind, amount_microusd: int) -> Entry:
    """Return what a source caused before; raise `SourceReused` unless that is what it is to cause now."""
    if (first.kind, first.amount_microusd) != (kind, amount_microusd):
        raise SourceReused(
            f"{first.source_id} has caused a {first.kind} of {show_usd(first.amount_microusd)} before.",
            param="source_id",
        )
    return first


def _require_amount(amount_microusd: int) -> None:
    if amount_microusd <= 0:
        raise InvalidRequest("amount_microusd: must be more than 0.", param="amount_microusd")
    if amount_microusd > MOST_MICROUSD:
        raise InvalidRequest(f"amount_microusd: must be at most {MOST_MICROUSD}.", param="amount_microusd")


def _record(tx: Tx, caller: Caller, entry: Entry) -> None:
    audit.record(
        tx,
        caller,
        action=f"credits.{entry.kind}",
        resource_type="credit_entry",
        resource_id=ids.show("entry", entry.id),
        new={
            "amount_microusd": entry.amount_microusd,
            "source_id": entry.source_id,
            "reason": entry.reason,
        },
    )
