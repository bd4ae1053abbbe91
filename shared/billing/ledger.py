"""The credit ledger: each operation locks the account, looks, and writes its entries with the balance they lead to.

Each of them may be delivered twice: `source_id` names the cause, and the second call answers as the first did.
"""

from datetime import datetime
from typing import Any

from shared.audit import service as audit
from shared.billing import lots_store, store
from shared.billing.change import Change
from shared.billing.credits import same
from shared.billing.lots import take, total
from shared.billing.model import (
    Balance,
    Charged,
    Entry,
    Hold,
    HoldNotFound,
    HoldReleased,
    HoldStatus,
    SourceReused,
)
from shared.billing.moves import EntryKind
from shared.kernel import clock, ids
from shared.kernel.caller import Caller
from shared.kernel.db import Tx
from shared.kernel.telemetry import logger, measure


def hold(tx: Tx, caller: Caller, *, amount_microusd: int, source_id: str, expires_at: datetime) -> Hold:
    """Set credits aside until they are settled or released, at the latest some time after `expires_at`.

    Raises `InsufficientCredits`, having changed nothing. The same source again returns its first hold as it is now,
    whatever the amount: a step delivered twice may have estimated anew.
    """
    _require_not_negative(amount_microusd)
    balance, first, lots = store.lock_to_spend(tx, caller.org_id, source_id, amount_microusd, now=clock.now)
    if first is not None:
        return first
    change = Change(balance, clock.now())
    shares = take(change.without_ended(lots), amount_microusd)
    opened = change.open(source_id, shares, amount_microusd=amount_microusd, expires_at=expires_at)
    store.post(tx, change)
    return opened


def settle(tx: Tx, caller: Caller, *, source_id: str, amount_microusd: int) -> Entry:
    """Spend this much of what the source holds, parts included, and release the rest.

    Again with the same amount: the first entry. Raises `HoldNotFound`, `HoldReleased`, `SettleExceedsHold`,
    `SettleBelowParts`, and `HoldSettled` for another amount than before.
    """
    _require_not_negative(amount_microusd)
    balance, held = _locked_hold(tx, caller, source_id)
    if held.status is HoldStatus.SETTLED and held.settled_microusd == amount_microusd:
        return _first(tx, EntryKind.SETTLE, source_id)
    _refuse_late(held, amount_microusd)
    change = Change(balance, clock.now())
    entries = change.close(*held.settled(amount_microusd, at=change.now))
    store.post(tx, change)
    return entries[0]


def settle_part(tx: Tx, caller: Caller, *, source_id: str, part_id: str, amount_microusd: int) -> Entry:
    """Spend a part of an open hold; `settle` names the total in the end. The same part again: the first entry.

    Raises `HoldNotFound`, `HoldReleased`, `HoldSettled`, `SettleExceedsHold` for more than is left, and
    `SourceReused` for a part that had another amount before.
    """
    _require_not_negative(amount_microusd)
    if not part_id:
        raise ValueError("a part needs a name: the one without is the settlement of the rest")
    balance, held, first = store.lock_for_part(tx, caller.org_id, source_id, part_id)
    if held is None:
        raise _never_held(source_id)
    if first is not None:
        return same(first, EntryKind.SETTLE, amount_microusd)
    _refuse_late(held, amount_microusd)
    change = Change(balance, clock.now())
    entry = change.spend_part(*held.settled_in_part(amount_microusd, part_id=part_id))
    store.post(tx, change)
    return entry


def release(tx: Tx, caller: Caller, *, source_id: str) -> Entry:
    """Give back all that the source still holds. Again: the first entry. Raises `HoldNotFound`, `HoldSettled`."""
    balance, held = _locked_hold(tx, caller, source_id)
    if held.status is HoldStatus.RELEASED:
        return _first(tx, EntryKind.RELEASE, source_id)
    change = Change(balance, clock.now())
    closed, posting = held.released(reason="released", at=change.now)
    entries = change.close(closed, [posting])
    store.post(tx, change)
    return entries[0]


def release_expired(tx: Tx, caller: Caller) -> int:
    """Release every hold that nobody settled in time, and return how many those were."""
    now = clock.now()
    balance, overdue = store.lock_for_expiry(tx, now=now)
    if not overdue:
        return 0
    change = Change(balance, now)
    for held in overdue:
        closed, posting = held.released(reason="expired", at=now)
        change.close(closed, [posting])
    store.post(tx, change)
    _record(tx, caller, "credits.expire_holds", {"source_ids": [held.source_id for held in overdue]})
    return len(overdue)


def expire(tx: Tx, caller: Caller) -> int:
    """Let the lots that are over lose what is left in them, and return how many those were.

    What is held at that moment can still be spent; what of it is given back after the end expires with that.
    """
    balance = store.lock(tx)
    change = Change(balance, clock.now())
    ended = lots_store.ended(tx, now=change.now)
    if not ended:
        return 0
    change.without_ended(ended)
    store.post(tx, change)
    _record(
        tx,
        caller,
        "credits.expire",
        {
            "lot_ids": [ids.show("lot", lot.id) for lot in ended],
            "amount_microusd": sum(lot.remaining_microusd for lot in ended),
        },
    )
    return len(ended)


def charge(tx: Tx, caller: Caller, *, amount_microusd: int, source_id: str, reason: str) -> Charged:
    """Take the price of what was used already: what is available at once, the rest with the next credits.

    The same source again: the first answer; raises `SourceReused` if the amount differs. Nothing is written for
    what costs nothing.
    """
    _require_not_negative(amount_microusd)
    if amount_microusd == 0:
        return Charged(0, 0)
    balance, first, lots = store.lock_to_spend(tx, caller.org_id, source_id, amount_microusd, now=clock.now)
    if first is not None:
        if first.status is not HoldStatus.SETTLED or first.settled_microusd + first.owed_microusd != amount_microusd:
            raise SourceReused(f"Credits were held or charged for {source_id} before, with another amount.")
        return Charged(first.settled_microusd, first.owed_microusd)
    change = Change(balance, clock.now())
    usable = change.without_ended(lots)
    paid = min(amount_microusd, total(usable))
    change.spend(source_id, usable, amount_microusd=paid, reason=reason, owed_microusd=amount_microusd - paid)
    store.post(tx, change)
    return Charged(paid, amount_microusd - paid)


def _refuse_late(held: Hold, amount_microusd: int) -> None:
    # The reaper gave up on this work while it went on: somebody has to look, so the log and an alarm say so.
    if held.status is HoldStatus.RELEASED:
        facts = {"source_id": held.source_id, "cost_microusd": amount_microusd}
        logger.error("hold released before settlement", extra=facts)
        # One name for all functions in which it can happen: an alarm watches one set of dimensions.
        measure("LateSettlement", 1, service="credits")
        raise HoldReleased(f"The credits held for {held.source_id} were released before.")


def _locked_hold(tx: Tx, caller: Caller, source_id: str) -> tuple[Balance, Hold]:
    balance, held = store.lock_for_hold(tx, caller.org_id, source_id)
    if held is None:
        raise _never_held(source_id)
    return balance, held


def _record(tx: Tx, caller: Caller, action: str, facts: dict[str, Any]) -> None:
    org = ids.show("org", caller.org_id)
    audit.record(tx, caller, action=action, resource_type="org", resource_id=org, new=facts)


def _never_held(source_id: str) -> HoldNotFound:
    return HoldNotFound(f"No credits were ever held for {source_id}.")


def _first(tx: Tx, kind: EntryKind, source_id: str) -> Entry:
    entry = store.find_entry(tx, kind, source_id)
    assert entry is not None  # noqa: S101 - written in the transaction that closed the hold
    return entry


def _require_not_negative(amount_microusd: int) -> None:
    if amount_microusd < 0:
        raise ValueError(f"less than nothing can't be held or spent: {amount_microusd}")
