"""Use cases of credits and prices: grant, hold, settle, release, refund; what tokens and sandboxes cost.

Each of them may be delivered twice: `source_id` names the cause, and the second call answers as the first did.
"""

from dataclasses import replace
from datetime import datetime
from uuid import UUID

from shared.audit import service as audit
from shared.billing import checking, prices, store
from shared.billing.model import (
    Balance,
    Entry,
    EntryKind,
    Hold,
    HoldNotFound,
    HoldStatus,
    Posting,
    SourceReused,
    Violation,
)
from shared.billing.prices import ModelNotPriced as ModelNotPriced
from shared.billing.prices import TokenPrice as TokenPrice  # other areas name it in their signatures
from shared.kernel import clock, ids
from shared.kernel.caller import Caller
from shared.kernel.db import Tx
from shared.kernel.errors import Forbidden, InvalidRequest
from shared.kernel.money import show_usd
from shared.kernel.pagination import Slice
from shared.quotas.plans import PLANS


def receiver(caller: Caller, org_id: UUID | None) -> Caller:
    """Return the caller at work on this org's account, by default on its own; raise `Forbidden` unless it may."""
    if org_id not in (None, caller.org_id) and caller.role != "operator":
        raise Forbidden("Only the operator's key may name another org.")
    return replace(caller, org_id=org_id or caller.org_id)


def grant(tx: Tx, caller: Caller, *, amount_microusd: int, source_id: str, reason: str) -> Entry:
    """Add credits to the caller's org; raise `SourceReused` when this source granted another amount before."""
    return _add(tx, caller, Posting(EntryKind.GRANT, amount_microusd, source_id, reason))


def grant_included(tx: Tx, org_id: UUID, *, plan: str, request_id: str = "") -> None:
    """Grant a new org what its plan includes, once. `tx` acts for that org."""
    amount = PLANS[plan].included_credits_microusd
    if amount:
        caller = Caller.system(org_id, request_id=request_id)
        reason = f"included in the {plan} plan"
        grant(tx, caller, amount_microusd=amount, source_id=f"plan:{plan}", reason=reason)


def refund(tx: Tx, caller: Caller, *, amount_microusd: int, source_id: str, reason: str) -> Entry:
    """Give back credits that were settled; `source_id` names the refund.

    Raises `RefundExceedsSettled`, and `SourceReused` as `grant` does.
    """
    return _add(tx, caller, Posting(EntryKind.REFUND, amount_microusd, source_id, reason))


def hold(tx: Tx, caller: Caller, *, amount_microusd: int, source_id: str, expires_at: datetime) -> Hold:
    """Set credits aside until they are settled or released, at the latest some time after `expires_at`.

    Raises `InsufficientCredits`, having changed nothing. The same source again returns its first hold as it is now,
    whatever the amount: a step delivered twice may have estimated anew.
    """
    if amount_microusd < 0:
        raise ValueError(f"a hold can't be negative: {amount_microusd}")
    balance, first = store.lock_for_hold(tx, caller.org_id, source_id)
    if first is not None:
        return first
    opened = Hold(
        id=ids.new(),
        source_id=source_id,
        amount_microusd=amount_microusd,
        settled_microusd=0,
        status=HoldStatus.OPEN,
        created_at=clock.now(),
        expires_at=expires_at,
        closed_at=None,
    )
    after, entries = _entries(balance, [Posting(EntryKind.HOLD, amount_microusd, source_id, "reserved")])
    store.post(tx, after, entries, opened=opened)
    return opened


def settle(tx: Tx, caller: Caller, *, source_id: str, amount_microusd: int) -> Entry:
    """Spend this much of what the source holds and release the rest. Again with the same amount: the first entry.

    Raises `HoldNotFound`, `HoldReleased`, `SettleExceedsHold`, and `HoldSettled` for another amount than before.
    """
    if amount_microusd < 0:
        raise ValueError(f"less than nothing can't be settled: {amount_microusd}")
    balance, held = _locked_hold(tx, caller, source_id)
    if held.status is HoldStatus.SETTLED and held.settled_microusd == amount_microusd:
        return _first(tx, EntryKind.SETTLE, source_id)
    closed, postings = held.settled(amount_microusd, at=clock.now())
    return _close(tx, balance, [closed], postings)[0]


def release(tx: Tx, caller: Caller, *, source_id: str) -> Entry:
    """Give back all that the source holds. Again: the first entry. Raises `HoldNotFound`, `HoldSettled`."""
    balance, held = _locked_hold(tx, caller, source_id)
    if held.status is HoldStatus.RELEASED:
        return _first(tx, EntryKind.RELEASE, source_id)
    closed, posting = held.released(reason="released", at=clock.now())
    return _close(tx, balance, [closed], [posting])[0]


def release_expired(tx: Tx, caller: Caller) -> int:
    """Release every hold that nobody settled in time, and return how many those were."""
    now = clock.now()
    balance, overdue = store.lock_for_expiry(tx, now=now)
    if not overdue:
        return 0
    closed, postings = zip(*(held.released(reason="expired", at=now) for held in overdue), strict=True)
    _close(tx, balance, list(closed), list(postings))
    audit.record(
        tx,
        caller,
        action="credits.expire_holds",
        resource_type="org",
        resource_id=ids.show("org", caller.org_id),
        new={"source_ids": [held.source_id for held in overdue]},
    )
    return len(overdue)


def balance(tx: Tx) -> Balance:
    """Return the tenant's credits as they are now."""
    return store.find_balance(tx) or Balance()


def list_entries(tx: Tx, asked: Slice) -> list[Entry]:
    """Return up to `limit + 1` entries, the last to take effect first."""
    return store.list_entries(tx, asked)


def check(tx: Tx) -> list[Violation]:
    """Return what breaks the ledger's invariants, the first offending entry included; nothing when it is sound."""
    return checking.violations(tx)


def token_price(model: str, *, at: datetime) -> TokenPrice:
    """Return the model's price at a moment; raise `ModelNotPriced`."""
    return prices.book().tokens(model, at=at)


def price_of_tokens(model: str, *, input_tokens: int, cached_tokens: int, output_tokens: int, at: datetime) -> int:
    """Return micro-dollars; `cached_tokens` is the part of `input_tokens` that the provider read from its cache."""
    price = token_price(model, at=at)
    cost = price.cost(input_tokens=input_tokens, cached_tokens=cached_tokens, output_tokens=output_tokens)
    return cost.total_microusd


def price_of_sandbox(*, cpu_units: int, memory_mib: int, seconds: int, at: datetime) -> int:
    """Return micro-dollars of a sandbox of this size (1,024 CPU units are one vCPU) for this long."""
    return prices.book().at(at).sandbox.cost(cpu_units=cpu_units, memory_mib=memory_mib, seconds=seconds)


def _add(tx: Tx, caller: Caller, posting: Posting) -> Entry:
    if posting.amount_microusd <= 0:
        raise InvalidRequest("amount_microusd: must be more than 0.", param="amount_microusd")
    before, first = store.lock_for_entry(tx, caller.org_id, posting.kind, posting.source_id)
    if first is not None:
        if first.amount_microusd != posting.amount_microusd:
            raise SourceReused(
                f"{posting.source_id} has caused a {posting.kind} of {show_usd(first.amount_microusd)} before.",
                param="source_id",
            )
        return first
    after, entries = _entries(before, [posting])
    store.post(tx, after, entries)
    audit.record(
        tx,
        caller,
        action=f"credits.{posting.kind}",
        resource_type="credit_entry",
        resource_id=ids.show("entry", entries[0].id),
        new={
            "amount_microusd": posting.amount_microusd,
            "source_id": posting.source_id,
            "reason": posting.reason,
        },
    )
    return entries[0]


def _locked_hold(tx: Tx, caller: Caller, source_id: str) -> tuple[Balance, Hold]:
    balance, held = store.lock_for_hold(tx, caller.org_id, source_id)
    if held is None:
        raise HoldNotFound(f"No credits were ever held for {source_id}.")
    return balance, held


def _close(tx: Tx, before: Balance, closed: list[Hold], postings: list[Posting]) -> list[Entry]:
    after, entries = _entries(before, postings)
    store.post(tx, after, entries, closed=closed)
    return entries


def _entries(balance: Balance, postings: list[Posting]) -> tuple[Balance, list[Entry]]:
    """Return the balance after these postings, and the entries they make."""
    entries = []
    for posting in postings:
        balance = balance.after(posting)
        entries.append(Entry.of(posting, balance, entry_id=ids.new(), created_at=clock.now()))
    return balance, entries


def _first(tx: Tx, kind: EntryKind, source_id: str) -> Entry:
    entry = store.find_entry(tx, kind, source_id)
    assert entry is not None  # noqa: S101 - written in the transaction that closed the hold
    return entry
