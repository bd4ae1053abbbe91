"""The credit ledger: each operation locks the account, looks, and writes its entries with the balance they lead to.

Each of them may be delivered twice: `source_id` names the cause, and the second call answers as the first did.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from shared.audit import service as audit
from shared.billing import lots_store, store, till
from shared.billing.change import Change
from shared.billing.credits import same
from shared.billing.lots import total
from shared.billing.model import Charged, Entry, Hold, HoldNotFound, HoldStatus, SourceReused
from shared.billing.moves import EntryKind
from shared.billing.till import HoldAsked, Settlement, refuse_late
from shared.kernel import clock, ids
from shared.kernel.caller import Caller
from shared.kernel.db import Tx
from shared.kernel.errors import RunyardError


def hold(tx: Tx, caller: Caller, *, amount_microusd: int, source_id: str, expires_at: datetime) -> Hold:
    """Set credits aside until they are settled or released, at the latest some time after `expires_at`.

    Raises `InsufficientCredits`, having changed nothing. The same source again returns its first hold as it is now,
    whatever the amount: a step delivered twice may have estimated anew.
    """
    asked = HoldAsked(source_id=source_id, amount_microusd=amount_microusd, expires_at=expires_at)
    return _only(till.hold_many(tx, caller, [asked]))


def settle(tx: Tx, caller: Caller, *, source_id: str, amount_microusd: int) -> Entry:
    """Spend this much of what the source holds, parts included, and release the rest.

    Again with the same amount: the first entry. Raises `HoldNotFound`, `HoldReleased`, `SettleExceedsHold`,
    `SettleBelowParts`, and `HoldSettled` for another amount than before.
    """
    return _only(till.settle_many(tx, caller, [Settlement(source_id=source_id, amount_microusd=amount_microusd)]))


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
        raise HoldNotFound(f"No credits were ever held for {source_id}.")
    if first is not None:
        return same(first, EntryKind.SETTLE, amount_microusd)
    refuse_late(held, amount_microusd)
    change = Change(balance, clock.now())
    entry = change.spend_part(*held.settled_in_part(amount_microusd, part_id=part_id))
    store.post(tx, change)
    return entry


def release(tx: Tx, caller: Caller, *, source_id: str) -> Entry:
    """Give back all that the source still holds. Again: the first entry. Raises `HoldNotFound`, `HoldSettled`."""
    return _only(till.settle_many(tx, caller, [Settlement(source_id=source_id, amount_microusd=None)]))


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
    with tx.pipeline():
        asked = store.ask_to_move(tx, caller.org_id, (), [source_id])
        balance, found, lots = store.answer_to_move(tx, asked, amount_microusd, now=clock.now)
    if found:
        first = found[0]
        if first.status is not HoldStatus.SETTLED or first.settled_microusd + first.owed_microusd != amount_microusd:
            raise SourceReused(f"Credits were held or charged for {source_id} before, with another amount.")
        return Charged(first.settled_microusd, first.owed_microusd)
    change = Change(balance, clock.now())
    usable = change.without_ended(lots)
    paid = min(amount_microusd, total(usable))
    change.spend(source_id, usable, amount_microusd=paid, reason=reason, owed_microusd=amount_microusd - paid)
    store.post(tx, change)
    return Charged(paid, amount_microusd - paid)


def _only[T](outcomes: Sequence[T | RunyardError]) -> T:
    outcome = outcomes[0]
    if isinstance(outcome, RunyardError):
        raise outcome
    return outcome


def _record(tx: Tx, caller: Caller, action: str, facts: dict[str, Any]) -> None:
    org = ids.show("org", caller.org_id)
    audit.record(tx, caller, action=action, resource_type="org", resource_id=org, new=facts)


def _require_not_negative(amount_microusd: int) -> None:
    if amount_microusd < 0:
        raise ValueError(f"less than nothing can't be held or spent: {amount_microusd}")
