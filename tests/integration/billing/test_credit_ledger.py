"""The credit ledger on real Postgres: each operation, delivered once and twice, by its tenant and by another."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from shared.audit import service as audit
from shared.billing import service
from shared.billing.model import (
    EntryKind,
    HoldNotFound,
    HoldReleased,
    HoldSettled,
    HoldStatus,
    RefundExceedsSettled,
    SettleExceedsHold,
    SourceReused,
)
from shared.kernel import clock, db
from shared.kernel.caller import Caller
from shared.kernel.errors import InsufficientCredits, InvalidRequest, RunyardError
from shared.kernel.pagination import Slice
from tests.services import Services

type Operation = Callable[..., Any]


def do(caller: Caller, operation: Operation, **values: Any) -> Any:
    """Run one operation in a transaction of its own, as a Lambda would."""
    with db.tenant(caller) as tx:
        return operation(tx, caller, **values)


def grant(caller: Caller, amount: int, source: str = "plan:free") -> Any:
    return do(caller, service.grant, amount_microusd=amount, source_id=source, reason="test")


def hold(caller: Caller, amount: int, source: str = "run:1", *, minutes: int = 60) -> Any:
    expires_at = clock.now() + timedelta(minutes=minutes)
    return do(caller, service.hold, amount_microusd=amount, source_id=source, expires_at=expires_at)


def settle(caller: Caller, amount: int, source: str = "run:1") -> Any:
    return do(caller, service.settle, amount_microusd=amount, source_id=source)


def release(caller: Caller, source: str = "run:1") -> Any:
    return do(caller, service.release, source_id=source)


def refund(caller: Caller, amount: int, source: str = "refund:1") -> Any:
    return do(caller, service.refund, amount_microusd=amount, source_id=source, reason="test")


def available_and_held(caller: Caller) -> tuple[int, int]:
    """Return the two balances, having made sure that the ledger is sound."""
    with db.tenant(caller) as tx:
        assert service.check(tx) == []
        balance = service.balance(tx)
    return balance.available_microusd, balance.held_microusd


def entries(caller: Caller) -> list[tuple[EntryKind, int, int, int]]:
    """Return kind, amount, and available and held after it, the oldest first."""
    with db.tenant(caller) as tx:
        found = service.list_entries(tx, Slice(limit=100))
    return [(e.kind, e.amount_microusd, e.available_after_microusd, e.held_after_microusd) for e in reversed(found)]


def test_a_tenant_without_grants_has_nothing(org: Caller) -> None:
    assert available_and_held(org) == (0, 0)
    with pytest.raises(InsufficientCredits):
        hold(org, 1)


def test_work_that_costs_nothing_needs_no_credits(org: Caller) -> None:
    hold(org, 0)
    settle(org, 0)
    assert available_and_held(org) == (0, 0)


def test_the_ledger_tells_the_whole_story_with_the_balance_after_each_entry(org: Caller) -> None:
    grant(org, 1_000)
    hold(org, 400)
    settle(org, 150)
    hold(org, 300, "run:2")
    release(org, "run:2")
    refund(org, 50)
    assert entries(org) == [
        (EntryKind.GRANT, 1_000, 1_000, 0),
        (EntryKind.HOLD, 400, 600, 400),
        (EntryKind.SETTLE, 150, 600, 250),
        (EntryKind.RELEASE, 250, 850, 0),
        (EntryKind.HOLD, 300, 550, 300),
        (EntryKind.RELEASE, 300, 850, 0),
        (EntryKind.REFUND, 50, 900, 0),
    ]
    assert available_and_held(org) == (900, 0)


def test_a_hold_beyond_the_credits_changes_nothing_and_leaves_the_transaction_usable(org: Caller) -> None:
    grant(org, 100)
    with db.tenant(org) as tx:
        with pytest.raises(InsufficientCredits):
            service.hold(tx, org, amount_microusd=101, source_id="run:1", expires_at=clock.now())
        service.hold(tx, org, amount_microusd=100, source_id="run:1", expires_at=clock.now())
    assert available_and_held(org) == (0, 100)


def test_a_grant_delivered_twice_is_granted_once(org: Caller) -> None:
    assert grant(org, 100) == grant(org, 100)
    assert available_and_held(org) == (100, 0)


def test_a_source_that_granted_another_amount_before_is_refused(org: Caller) -> None:
    grant(org, 100)
    with pytest.raises(SourceReused) as refused:
        grant(org, 200)
    assert refused.value.code == "source_id_reused"
    assert available_and_held(org) == (100, 0)


def test_a_hold_delivered_twice_holds_once_even_when_it_was_estimated_anew(org: Caller) -> None:
    grant(org, 100)
    first = hold(org, 60)
    assert hold(org, 60).id == first.id
    assert hold(org, 90).amount_microusd == 60
    assert available_and_held(org) == (40, 60)


def test_a_settlement_delivered_twice_is_made_once(org: Caller) -> None:
    grant(org, 100)
    hold(org, 60)
    assert settle(org, 25) == settle(org, 25)
    assert available_and_held(org) == (75, 0)


def test_a_release_delivered_twice_is_made_once(org: Caller) -> None:
    grant(org, 100)
    hold(org, 60)
    assert release(org) == release(org)
    assert available_and_held(org) == (100, 0)


def test_a_refund_delivered_twice_is_made_once(org: Caller) -> None:
    grant(org, 100)
    hold(org, 60)
    settle(org, 60)
    assert refund(org, 10) == refund(org, 10)
    assert available_and_held(org) == (50, 0)


def test_a_hold_delivered_again_after_its_settlement_does_not_open_it_again(org: Caller) -> None:
    grant(org, 100)
    hold(org, 60)
    settle(org, 60)
    assert hold(org, 60).status is HoldStatus.SETTLED
    assert available_and_held(org) == (40, 0)


@pytest.mark.parametrize(
    ("steps", "operation", "error", "code"),
    [
        ((), lambda org: settle(org, 1), HoldNotFound, "hold_not_found"),
        ((), release, HoldNotFound, "hold_not_found"),
        ((), lambda org: settle(org, 61), SettleExceedsHold, "settle_exceeds_hold"),
        ((release,), lambda org: settle(org, 60), HoldReleased, "hold_released"),
        ((lambda org: settle(org, 60),), release, HoldSettled, "hold_settled"),
        ((lambda org: settle(org, 60),), lambda org: settle(org, 59), HoldSettled, "hold_settled"),
        ((lambda org: settle(org, 60),), lambda org: refund(org, 61), RefundExceedsSettled, "refund_exceeds_settled"),
        ((), lambda org: refund(org, 1), RefundExceedsSettled, "refund_exceeds_settled"),
        ((), lambda org: grant(org, 0), InvalidRequest, "invalid_request"),
        ((), lambda org: grant(org, -1, "x"), InvalidRequest, "invalid_request"),
        ((), lambda org: refund(org, -1), InvalidRequest, "invalid_request"),
    ],
    ids=[
        "settling what was never held",
        "releasing what was never held",
        "settling more than is held",
        "settling after a release",
        "releasing after a settlement",
        "settling another amount than before",
        "refunding more than was settled",
        "refunding before anything was settled",
        "granting nothing",
        "granting less than nothing",
        "refunding less than nothing",
    ],
)
def test_what_cannot_be_is_refused_with_its_code_and_changes_nothing(
    org: Caller, steps: tuple[Operation, ...], operation: Operation, error: type[RunyardError], code: str
) -> None:
    grant(org, 100)
    if error is not HoldNotFound:
        hold(org, 60)
    for step in steps:
        step(org)
    before = (available_and_held(org), entries(org))
    with pytest.raises(error) as refused:
        operation(org)
    assert refused.value.code == code
    assert (available_and_held(org), entries(org)) == before


@pytest.mark.parametrize("operation", [lambda org: hold(org, -1), lambda org: settle(org, -1)], ids=["hold", "settle"])
def test_negative_amounts_are_a_fault_of_the_program(org: Caller, operation: Operation) -> None:
    grant(org, 100)
    with pytest.raises(ValueError, match="-1"):
        operation(org)


def test_holds_that_nobody_settled_in_time_are_released_and_others_are_not(org: Caller) -> None:
    grant(org, 100)
    hold(org, 10, "run:late-1", minutes=-2)
    hold(org, 20, "run:late-2", minutes=-1)
    hold(org, 30, "run:at-work")
    assert do(org, service.release_expired) == 2
    assert do(org, service.release_expired) == 0
    assert available_and_held(org) == (70, 30)
    with pytest.raises(HoldReleased):
        settle(org, 10, "run:late-1")


def test_a_tenant_with_an_overdue_hold_is_found_by_the_reaper(org: Caller, rival: Caller) -> None:
    for caller in (org, rival):
        grant(caller, 100)
    hold(org, 10, minutes=-1)
    hold(rival, 10, minutes=1)
    with db.anonymous() as tx:
        found = tx.execute("SELECT orgs_with_work(interval '1 hour') AS org_id").fetchall()
    assert [row["org_id"] for row in found] == [org.org_id]


def test_what_a_crash_interrupts_leaves_no_trace(org: Caller) -> None:
    grant(org, 100)

    class Crash(Exception):
        pass

    def crash_in_the_middle() -> None:
        with db.tenant(org) as tx:
            service.hold(tx, org, amount_microusd=60, source_id="run:1", expires_at=clock.now())
            raise Crash

    with pytest.raises(Crash):
        crash_in_the_middle()
    assert available_and_held(org) == (100, 0)
    hold(org, 100)


def test_another_tenant_sees_nothing_and_touches_nothing(org: Caller, rival: Caller) -> None:
    grant(org, 100)
    hold(org, 60)
    assert available_and_held(rival) == (0, 0)
    assert entries(rival) == []
    for operation in (release, lambda caller: settle(caller, 1)):
        with pytest.raises(HoldNotFound):
            operation(rival)
    with pytest.raises(InsufficientCredits):
        hold(rival, 1)
    assert available_and_held(org) == (40, 60)


def test_two_tenants_may_use_the_same_source(org: Caller, rival: Caller) -> None:
    for caller, amount in ((org, 100), (rival, 200)):
        grant(caller, amount, "invoice:1")
        hold(caller, amount, "run:1")
    assert (available_and_held(org), available_and_held(rival)) == ((0, 100), (0, 200))


def test_a_grant_and_a_refund_are_on_the_audit_trail_with_their_entry(org: Caller) -> None:
    grant(org, 100)
    hold(org, 60)
    settle(org, 60)
    refund(org, 10)
    with db.tenant(org) as tx:
        events = audit.list_events(tx, Slice(), action=None, resource_id=None)
    money = [(event.action, event.new) for event in events if event.action.startswith("credits.")]
    assert money == [
        ("credits.refund", {"amount_microusd": 10, "source_id": "refund:1", "reason": "test"}),
        ("credits.grant", {"amount_microusd": 100, "source_id": "plan:free", "reason": "test"}),
    ]


@pytest.mark.parametrize(
    ("tampering", "rule", "blames_an_entry"),
    [
        (
            "UPDATE credit_entries SET amount_microusd = 61 WHERE kind = 'hold'",
            "entry.available_after",
            True,
        ),
        ("UPDATE credit_entries SET held_after_microusd = 61 WHERE kind = 'hold'", "entry.held_after", True),
        ("DELETE FROM credit_entries WHERE kind = 'hold'", "entries.in_order", True),
        ("UPDATE credit_accounts SET granted_microusd = 101", "account.granted", False),
        ("UPDATE credit_accounts SET held_microusd = 61", "account.held", False),
        ("UPDATE credit_holds SET status = 'released'", "hold.closed", True),
    ],
)
def test_a_ledger_that_somebody_meddled_with_is_found_out(
    services: Services, database: str, org: Caller, tampering: str, rule: str, blames_an_entry: bool
) -> None:
    grant(org, 100)
    hold(org, 60)
    grant(org, 5, "gift")
    with db.tenant(org) as tx:
        gift, held, _ = service.list_entries(tx, Slice())
    with psycopg.connect(services.superuser_url(database)) as connection:
        connection.execute(tampering.encode())
    with db.tenant(org) as tx:
        first, *_ = service.check(tx)
    assert first.rule == rule
    blamed = gift if tampering.startswith("DELETE") else held
    assert first.entry_id == (blamed.id if blames_an_entry else None)
    assert first.expected != first.found


@pytest.mark.parametrize("statement", ["UPDATE credit_entries SET reason = 'x'", "DELETE FROM credit_entries"])
def test_the_application_cannot_rewrite_history(org: Caller, statement: str) -> None:
    grant(org, 100)
    with pytest.raises(psycopg.errors.InsufficientPrivilege), db.tenant(org) as tx:
        tx.execute(statement.encode())


def test_the_database_itself_refuses_an_overdraft(org: Caller) -> None:
    grant(org, 100)
    with pytest.raises(psycopg.errors.CheckViolation, match="credit_accounts_available"), db.tenant(org) as tx:
        tx.execute("UPDATE credit_accounts SET held_microusd = 101")
