"""Credits in lots: which are spent first, when they are lost, and what of a hold goes back where."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from functions.schedules import reap
from shared.audit import service as audit
from shared.billing import service
from shared.billing.model import (
    Balance,
    EntryKind,
    HoldNotFound,
    HoldReleased,
    HoldSettled,
    NextExpiry,
    SettleBelowParts,
    SettleExceedsHold,
    SourceReused,
)
from shared.billing.service import LotKind
from shared.kernel import clock, db, ids
from shared.kernel.caller import Caller
from shared.kernel.errors import InsufficientCredits, InvalidRequest, RunyardError
from shared.kernel.pagination import Slice
from tests.api_gateway import Context

START = datetime(2026, 6, 1, tzinfo=UTC)


class Account:
    """A tenant's account and a clock that is held still."""

    def __init__(self, caller: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
        self.caller = caller
        self.now = START
        monkeypatch.setattr(clock, "now", lambda: self.now)

    def do(self, name: str, **values: Any) -> Any:
        with db.tenant(self.caller) as tx:
            return getattr(service, name)(tx, self.caller, **values)

    def grant(self, source: str, amount: int, *, kind: LotKind = LotKind.PURCHASE, days: int | None = None) -> Any:
        expires_at = None if days is None else START + timedelta(days=days)
        return self.do(
            "grant", amount_microusd=amount, source_id=source, reason="test", kind=kind, expires_at=expires_at
        )

    def hold(self, amount: int, source: str = "run:1") -> Any:
        return self.do("hold", amount_microusd=amount, source_id=source, expires_at=self.now + timedelta(days=100))

    def settle(self, amount: int, source: str = "run:1") -> Any:
        return self.do("settle", amount_microusd=amount, source_id=source)

    def part(self, part_id: str, amount: int) -> Any:
        return self.do("settle_part", source_id="run:1", part_id=part_id, amount_microusd=amount)

    def after(self, days: int) -> None:
        self.now = START + timedelta(days=days)

    @property
    def balance(self) -> Balance:
        """The balance, of a ledger that is sound."""
        with db.tenant(self.caller) as tx:
            assert service.check(tx) == []
            return service.balance(tx)

    @property
    def left(self) -> dict[str, int]:
        """What is left in each lot, by its source, those used up left out."""
        with db.tenant(self.caller) as tx:
            assert service.check(tx) == []
            lots = service.lots(tx, Slice(limit=100))
        return {lot.source_id: lot.remaining_microusd for lot in lots if lot.remaining_microusd}

    @property
    def story(self) -> list[tuple[EntryKind, int, str]]:
        with db.tenant(self.caller) as tx:
            entries = service.list_entries(tx, Slice(limit=100))
        return [(entry.kind, entry.amount_microusd, entry.source_id) for entry in reversed(entries)]


@pytest.fixture
def account(org: Caller, monkeypatch: pytest.MonkeyPatch) -> Account:
    return Account(org, monkeypatch)


def test_credits_are_spent_by_priority_then_by_their_end_then_by_their_age(account: Account) -> None:
    account.grant("bought first", 10)
    account.grant("bought second", 10)
    account.grant("bought, but ends", 10, days=60)
    account.grant("of the plan", 10, kind=LotKind.PLAN, days=90)
    account.grant("given", 10, kind=LotKind.PROMO)
    spent = []
    for number in range(5):
        before = account.left
        account.hold(10, f"run:{number}")
        spent += [source for source in before if source not in account.left]
    assert spent == ["given", "of the plan", "bought, but ends", "bought first", "bought second"]


def test_a_priority_of_its_own_goes_before_that_of_the_kind(account: Account) -> None:
    account.grant("given", 10, kind=LotKind.PROMO)
    account.do("grant", amount_microusd=10, source_id="urgent", reason="test", priority=10)
    account.hold(15)
    assert account.left == {"given": 5}


def test_a_hold_takes_from_several_lots_and_gives_back_to_those_it_did_not_spend(account: Account) -> None:
    account.grant("given", 10, kind=LotKind.PROMO)
    account.grant("bought", 30)
    account.hold(35)
    assert account.left == {"bought": 5}
    account.settle(12)
    assert account.left == {"bought": 28}


def test_what_is_over_is_lost_and_can_not_be_held(account: Account) -> None:
    account.grant("ends", 10, days=1)
    account.grant("stays", 5)
    account.after(days=1)
    with pytest.raises(InsufficientCredits, match=r"\$0.000005 is available"):
        account.hold(6)
    account.hold(5)
    assert account.left == {}
    assert account.story[2:] == [
        (EntryKind.EXPIRE, 10, _lot(account, "ends")),
        (EntryKind.HOLD, 5, "run:1"),
    ]


def test_every_lot_that_is_over_expires_once(account: Account) -> None:
    account.grant("ends", 10, days=1)
    account.grant("ends too", 20, days=2)
    account.grant("ends later", 40, days=3)
    account.after(days=2)
    assert account.do("expire") == 2
    assert account.do("expire") == 0
    assert account.left == {"ends later": 40}
    assert (account.balance.expired_microusd, account.balance.available_microusd) == (30, 40)
    with db.tenant(account.caller) as tx:
        (event,) = audit.list_events(tx, Slice(), action="credits.expire", resource_id=None)
    assert event.new == {"lot_ids": [_lot(account, "ends"), _lot(account, "ends too")], "amount_microusd": 30}


def test_what_is_held_at_the_end_can_still_be_spent_and_what_of_it_comes_back_expires(account: Account) -> None:
    account.grant("ends", 10, days=1)
    account.hold(8)
    account.after(days=2)
    assert account.do("expire") == 1
    assert account.balance == Balance(granted_microusd=10, held_microusd=8, expired_microusd=2, entries=3)
    account.settle(5)
    assert account.left == {}
    ends = _lot(account, "ends")
    assert account.story[2:] == [
        (EntryKind.EXPIRE, 2, ends),
        (EntryKind.SETTLE, 5, "run:1"),
        (EntryKind.RELEASE, 3, "run:1"),
        (EntryKind.EXPIRE, 3, ends),
    ]


@pytest.mark.parametrize("how", ["release", "release_expired"])
def test_a_hold_released_after_the_end_gives_back_nothing_of_that_lot(account: Account, how: str) -> None:
    account.grant("ends", 10, days=1)
    account.grant("stays", 10)
    account.hold(15)
    account.after(days=101)
    account.do(how, **({"source_id": "run:1"} if how == "release" else {}))
    assert account.left == {"stays": 10}
    assert account.balance.expired_microusd == 10


def test_credits_that_end_in_the_past_are_not_granted_but_a_grant_of_before_is_told_again(account: Account) -> None:
    first = account.grant("ends", 10, days=1)
    account.after(days=2)
    with pytest.raises(InvalidRequest) as refused:
        account.grant("too late", 10, days=1)
    assert refused.value.param == "expires_at"
    assert account.grant("ends", 10, days=1) == first


def test_a_tenant_with_many_lots_spends_all_of_them(account: Account) -> None:
    for number in range(40):
        account.grant(f"gift:{number}", 3, days=1 + number % 2)
    account.after(days=1)
    account.hold(20 * 3)
    assert account.left == {}


def test_the_reaper_finds_what_is_over_and_the_balance_tells_what_is_next(account: Account, rival: Caller) -> None:
    day = timedelta(days=1)
    # The database finds tenants by its own clock.
    today = datetime.now(UTC)
    account.now = today - 2 * day
    for source, end in (
        ("over", today - day),
        ("next", today + day),
        ("next too", today + day),
        ("last", today + 2 * day),
    ):
        account.do("grant", amount_microusd=10, source_id=source, reason="test", expires_at=end)
    with db.tenant(rival) as tx:
        service.grant(tx, rival, amount_microusd=10, source_id="x", reason="test", expires_at=today + day)
    account.now = today
    assert service.orgs_with_expired_credits() == [account.caller.org_id]
    assert reap.handler({}, Context())["credits"] == 1
    assert service.orgs_with_expired_credits() == []
    with db.tenant(account.caller) as tx:
        assert service.next_expiry(tx) == NextExpiry(20, today + day)


def test_a_hold_is_spent_in_parts_and_the_end_names_the_total(account: Account) -> None:
    account.grant("given", 10, kind=LotKind.PROMO)
    account.grant("bought", 90)
    account.hold(50)
    account.part("1", 8)
    account.part("2", 7)
    assert (account.balance.settled_microusd, account.balance.held_microusd) == (15, 35)
    assert account.settle(20).amount_microusd == 5
    assert account.settle(20).amount_microusd == 5
    assert account.left == {"bought": 80}
    assert [(kind, amount) for kind, amount, _ in account.story[3:]] == [
        (EntryKind.SETTLE, 8),
        (EntryKind.SETTLE, 7),
        (EntryKind.SETTLE, 5),
        (EntryKind.RELEASE, 30),
    ]


def test_a_hold_spent_in_parts_alone_is_settled_by_nothing_more(account: Account) -> None:
    account.grant("bought", 10)
    account.hold(10)
    account.part("1", 10)
    assert account.settle(10).amount_microusd == 0
    assert account.balance.settled_microusd == 10


def test_a_part_delivered_twice_is_spent_once_even_when_the_hold_is_closed_by_then(account: Account) -> None:
    account.grant("bought", 10)
    account.hold(10)
    first = account.part("1", 4)
    assert account.part("1", 4) == first
    account.settle(6)
    assert account.part("1", 4) == first
    assert account.balance.settled_microusd == 6


def test_what_is_left_of_a_hold_spent_in_part_is_released(account: Account) -> None:
    account.grant("bought", 10)
    account.hold(10)
    account.part("1", 4)
    assert account.do("release", source_id="run:1").amount_microusd == 6
    assert account.balance == Balance(granted_microusd=10, settled_microusd=4, entries=4)


def test_parts_that_can_not_be_are_refused_with_their_code_and_change_nothing(account: Account) -> None:
    account.grant("bought", 20)
    account.hold(10)
    account.part("1", 4)
    before = account.balance
    refusals: list[tuple[type[RunyardError], Callable[[], object]]] = [
        (SettleExceedsHold, lambda: account.part("2", 7)),
        (SourceReused, lambda: account.part("1", 5)),
        (SettleBelowParts, lambda: account.settle(3)),
        (SettleExceedsHold, lambda: account.settle(11)),
        (HoldNotFound, lambda: account.do("settle_part", source_id="run:2", part_id="1", amount_microusd=1)),
    ]
    codes = []
    for error, act in refusals:
        with pytest.raises(error) as refused:
            act()
        codes.append(refused.value.code)
    assert codes == [
        "settle_exceeds_hold",
        "source_id_reused",
        "settle_below_parts",
        "settle_exceeds_hold",
        "hold_not_found",
    ]
    for part_id, amount in (("", 1), ("2", -1)):
        with pytest.raises(ValueError, match=r"part|-1"):
            account.part(part_id, amount)
    assert account.balance == before
    account.settle(4)
    with pytest.raises(HoldSettled):
        account.part("2", 1)


@pytest.mark.parametrize("how", ["settle", "part"])
def test_a_settlement_that_comes_too_late_is_refused_logged_and_measured(
    account: Account, logged: Any, capsys: pytest.CaptureFixture[str], how: str
) -> None:
    account.grant("bought", 10)
    account.hold(10)
    account.do("release", source_id="run:1")
    with pytest.raises(HoldReleased) as refused:
        account.settle(7) if how == "settle" else account.part("1", 7)
    assert refused.value.code == "hold_released"
    assert "hold released before settlement" in logged()
    metric = next(line for line in capsys.readouterr().out.splitlines() if "LateSettlement" in line)
    assert '"Dimensions":[["stage","service"]]' in metric
    assert '"service":"credits"' in metric
    assert account.balance.available_microusd == 10


def _lot(account: Account, source: str) -> str:
    with db.tenant(account.caller) as tx:
        return next(ids.show("lot", lot.id) for lot in service.lots(tx, Slice(limit=100)) if lot.source_id == source)
