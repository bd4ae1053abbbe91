"""Charges for what was used already, the debt that they may leave, and corrections of a balance."""

from typing import Any

import psycopg
import pytest

from shared.audit import service as audit
from shared.billing import service
from shared.billing.model import AdjustmentExceedsAvailable, Balance, Charged, EntryKind, SourceReused
from shared.billing.service import LotKind
from shared.kernel import clock, db, ids
from shared.kernel.caller import Caller
from shared.kernel.errors import InvalidRequest
from shared.kernel.pagination import Slice
from tests.services import Services


def do(caller: Caller, name: str, amount: int, source: str, **values: Any) -> Any:
    if name not in ("hold", "settle"):
        values["reason"] = "test"
    with db.tenant(caller) as tx:
        return getattr(service, name)(tx, caller, amount_microusd=amount, source_id=source, **values)


def charge(caller: Caller, amount: int, source: str = "usage:1") -> Charged:
    answer: Charged = do(caller, "charge", amount, source)
    return answer


def balance(caller: Caller) -> Balance:
    """Return the balance of a ledger that is sound."""
    with db.tenant(caller) as tx:
        assert service.check(tx) == []
        return service.balance(tx)


def story(caller: Caller) -> list[tuple[EntryKind, int, str]]:
    with db.tenant(caller) as tx:
        entries = service.list_entries(tx, Slice(limit=100))
    return [(entry.kind, entry.amount_microusd, entry.source_id) for entry in reversed(entries)]


def lots(caller: Caller) -> dict[str, tuple[LotKind, int, int]]:
    with db.tenant(caller) as tx:
        found = service.lots(tx, Slice(limit=100))
    return {lot.source_id: (lot.kind, lot.amount_microusd, lot.remaining_microusd) for lot in found}


def test_what_was_used_is_paid_at_once_while_there_are_credits(org: Caller) -> None:
    do(org, "grant", 100, "g")
    assert charge(org, 30) == Charged(30, 0)
    assert balance(org) == Balance(granted_microusd=100, settled_microusd=30, entries=3)
    assert story(org)[1:] == [(EntryKind.HOLD, 30, "usage:1"), (EntryKind.SETTLE, 30, "usage:1")]


def test_a_charge_delivered_twice_is_made_once_and_answered_alike(org: Caller) -> None:
    do(org, "grant", 20, "g")
    assert charge(org, 30) == charge(org, 30) == Charged(20, 10)
    do(org, "grant", 100, "g2")
    assert charge(org, 30) == Charged(20, 10)
    assert balance(org).settled_microusd == 30


@pytest.mark.parametrize("how", ["charge", "hold"])
def test_a_source_that_cost_another_amount_before_can_not_be_charged(org: Caller, how: str) -> None:
    do(org, "grant", 100, "g")
    do(org, how, 30, "usage:1", **({"expires_at": clock.now()} if how == "hold" else {}))
    before = balance(org)
    with pytest.raises(SourceReused):
        charge(org, 31 if how == "charge" else 30)
    assert balance(org) == before


def test_what_costs_nothing_leaves_no_trace(org: Caller) -> None:
    assert charge(org, 0) == Charged(0, 0)
    assert balance(org) == Balance()
    with pytest.raises(ValueError, match="-1"):
        charge(org, -1)


def test_a_tenant_without_an_account_owes_all_of_it(org: Caller) -> None:
    assert charge(org, 30) == Charged(0, 30)
    assert balance(org) == Balance(owed_microusd=30, entries=2)


@pytest.mark.parametrize("how", ["grant", "refund", "adjust"])
def test_a_debt_is_paid_by_the_next_credits_exactly_once(org: Caller, how: str) -> None:
    do(org, "grant", 100, "g")
    assert charge(org, 130) == Charged(100, 30)
    entry = do(org, how, 50, "next")
    assert do(org, how, 50, "next") == entry
    owed = f"owed:{ids.show('entry', entry.id)}"
    assert story(org)[4:] == [(EntryKind.HOLD, 30, owed), (EntryKind.SETTLE, 30, owed)]
    after = balance(org)
    assert (after.available_microusd, after.owed_microusd, after.settled_microusd) == (20, 0, 130)
    do(org, "grant", 5, "later")
    assert balance(org).available_microusd == 25


def test_a_debt_larger_than_what_comes_in_is_paid_bit_by_bit(org: Caller) -> None:
    charge(org, 30)
    charge(org, 20, "usage:2")
    do(org, "grant", 40, "g1")
    assert (balance(org).available_microusd, balance(org).owed_microusd) == (0, 10)
    do(org, "grant", 40, "g2")
    assert (balance(org).available_microusd, balance(org).owed_microusd) == (30, 0)


def test_a_debt_is_paid_from_the_lots_that_are_spent_first(org: Caller) -> None:
    do(org, "grant", 50, "bought")
    do(org, "hold", 50, "run:1", expires_at=clock.now())
    charge(org, 30)
    with db.tenant(org) as tx:
        service.release(tx, org, source_id="run:1")
    do(org, "grant", 10, "given", kind=LotKind.PROMO)
    assert {source: left for source, (_, _, left) in lots(org).items()} == {"bought": 30, "given": 0}
    assert balance(org).available_microusd == 30


def test_an_adjustment_upwards_is_a_lot_and_one_downwards_takes_from_the_lots(org: Caller) -> None:
    do(org, "grant", 10, "given", kind=LotKind.PROMO)
    do(org, "grant", 100, "bought")
    up = do(org, "adjust", 7, "up")
    down = do(org, "adjust", -25, "down")
    assert (up.kind, up.amount_microusd) == (EntryKind.ADJUST_UP, 7)
    assert (down.kind, down.amount_microusd) == (EntryKind.ADJUST_DOWN, 25)
    assert lots(org) == {
        "given": (LotKind.PROMO, 10, 0),
        "up": (LotKind.ADJUSTMENT, 7, 0),
        "bought": (LotKind.PURCHASE, 100, 92),
    }
    assert balance(org) == Balance(granted_microusd=92, entries=4)
    with db.tenant(org) as tx:
        events = audit.list_events(tx, Slice(), action=None, resource_id=ids.show("entry", down.id))
    assert [(event.action, event.new) for event in events] == [
        ("credits.adjust_down", {"amount_microusd": 25, "source_id": "down", "reason": "test"})
    ]


@pytest.mark.parametrize("amount", [7, -7])
def test_an_adjustment_delivered_twice_is_made_once_and_never_the_other_way(org: Caller, amount: int) -> None:
    do(org, "grant", 100, "g")
    assert do(org, "adjust", amount, "a") == do(org, "adjust", amount, "a")
    before = balance(org)
    for other in (-amount, 2 * amount):
        with pytest.raises(SourceReused):
            do(org, "adjust", other, "a")
    assert balance(org) == before


def test_no_more_is_taken_away_than_is_available(org: Caller) -> None:
    do(org, "grant", 100, "g")
    do(org, "hold", 60, "run:1", expires_at=clock.now())
    with pytest.raises(AdjustmentExceedsAvailable) as refused:
        do(org, "adjust", -41, "a")
    assert refused.value.code == "adjustment_exceeds_available"
    do(org, "adjust", -40, "b")
    assert balance(org).available_microusd == 0


@pytest.mark.parametrize(
    ("name", "amount"), [("adjust", 0), ("adjust", 10**15 + 1), ("adjust", -(10**15) - 1), ("grant", 10**15 + 1)]
)
def test_amounts_that_no_account_could_hold_are_refused(org: Caller, name: str, amount: int) -> None:
    with pytest.raises(InvalidRequest) as refused:
        do(org, name, amount, "a")
    assert refused.value.param == "amount_microusd"


@pytest.mark.parametrize(
    ("tampering", "rule"),
    [
        ("UPDATE credit_lots SET remaining_microusd = remaining_microusd + 1 WHERE source_id = 'g'", "lot.remaining"),
        ("UPDATE credit_lots SET amount_microusd = amount_microusd + 1 WHERE source_id = 'g'", "lot.amount"),
        ("UPDATE credit_holds SET status = 'open' WHERE source_id = 'usage:1'", "hold.closed"),
        ("UPDATE credit_holds SET settled_microusd = 1 WHERE source_id = 'usage:1'", "hold.settled"),
        ("UPDATE credit_holds SET lot_amounts = '{1}' WHERE source_id = 'run:1'", "hold.lots"),
        ("UPDATE credit_entries SET subject_id = NULL WHERE kind = 'hold' AND source_id = 'run:1'", "entry.cause"),
        ("UPDATE credit_accounts SET owed_microusd = owed_microusd + 1", "account.owed"),
        ("UPDATE credit_accounts SET expired_microusd = 1", "account.expired"),
    ],
    ids=lambda value: value if "." in value and " " not in value else "sql",
)
def test_meddling_with_lots_holds_and_debts_is_found_out(
    services: Services, database: str, org: Caller, tampering: str, rule: str
) -> None:
    charge(org, 5, "usage:0")
    do(org, "grant", 100, "g")
    charge(org, 30)
    do(org, "hold", 20, "run:1", expires_at=clock.now())
    balance(org)
    with psycopg.connect(services.superuser_url(database)) as connection:
        connection.execute(tampering.encode())
    with db.tenant(org) as tx:
        first, *_ = service.check(tx)
        entries = {entry.id: entry for entry in service.list_entries(tx, Slice(limit=100))}
    assert first.rule == rule
    if first.entry_id is not None:
        named = "run:1" if "run:1" in tampering else "usage:1" if "usage:1" in tampering else "g"
        assert entries[first.entry_id].source_id == named
    assert first.expected != first.found
