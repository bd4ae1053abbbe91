"""Many holds and settlements in one go come to the same as one after the other, entry by entry."""

import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest

from shared.billing import service
from shared.billing.model import Balance, Entry, Hold
from shared.billing.service import HoldAsked, Settlement
from shared.kernel import clock, db, ids
from shared.kernel.caller import Caller
from shared.kernel.db import Tx
from shared.kernel.errors import InsufficientCredits, RunyardError
from shared.kernel.pagination import Slice
from shared.orgs import service as orgs

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)

type Operation = HoldAsked | Settlement
type Apply = Callable[[Tx, Caller, Sequence[Operation]], list[object]]


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> Callable[[datetime], None]:
    """`at(moment)`: what the clock shows from now on."""

    def set_to(moment: datetime) -> None:
        monkeypatch.setattr(clock, "now", lambda: moment)

    set_to(NOW)
    return set_to


@dataclass(frozen=True)
class Furnished:
    """Lots of an account: how much, and in how many minutes they end; None: never."""

    lots: Sequence[tuple[int, int | None]]

    def furnish(self, caller: Caller) -> None:
        with db.tenant(caller) as tx:
            for n, (amount, minutes) in enumerate(self.lots):
                service.grant(
                    tx,
                    caller,
                    amount_microusd=amount,
                    source_id=f"grant:{n}",
                    reason="test",
                    expires_at=None if minutes is None else NOW + timedelta(minutes=minutes),
                    priority=n % 3,
                )


def one_by_one(tx: Tx, caller: Caller, operations: Sequence[Operation]) -> list[object]:
    return [_said(_attempt(partial(_single, tx, caller, each))) for each in operations]


def in_one_go(tx: Tx, caller: Caller, operations: Sequence[Operation]) -> list[object]:
    settlements = [each for each in operations if isinstance(each, Settlement)]
    holds = [each for each in operations if isinstance(each, HoldAsked)]
    said = [*service.settle_many(tx, caller, settlements), *service.hold_many(tx, caller, holds)]
    return [_said(each) for each in said]


def at_one_till(tx: Tx, caller: Caller, operations: Sequence[Operation]) -> list[object]:
    settlements = [each for each in operations if isinstance(each, Settlement)]
    holds = [each for each in operations if isinstance(each, HoldAsked)]
    with tx.pipeline():
        till = service.Till.ask(tx, caller, settlements, holds)
        said = [
            _attempt(partial(till.hold, each) if isinstance(each, HoldAsked) else partial(till.settle, each))
            for each in operations
        ]
        till.write()
    return [_said(each) for each in said]


def _single(tx: Tx, caller: Caller, operation: Operation) -> object:
    if isinstance(operation, HoldAsked):
        return service.hold(
            tx,
            caller,
            amount_microusd=operation.amount_microusd,
            source_id=operation.source_id,
            expires_at=operation.expires_at,
        )
    if operation.amount_microusd is None:
        return service.release(tx, caller, source_id=operation.source_id)
    return service.settle(tx, caller, source_id=operation.source_id, amount_microusd=operation.amount_microusd)


def _attempt(work: Callable[[], object]) -> object:
    try:
        return work()
    except RunyardError as error:
        return error


def _said(outcome: object) -> object:
    match outcome:
        case RunyardError():
            return outcome.code, outcome.message
        case Hold():
            return outcome.source_id, outcome.amount_microusd, outcome.status
        case Entry():
            return _bare(outcome)
    raise AssertionError(outcome)


def _bare(entry: Entry) -> tuple[object, ...]:
    return entry.entry_no, entry.kind, entry.amount_microusd, entry.source_id if entry.kind != "expire" else "a lot"


def state(caller: Caller) -> tuple[object, object, object]:
    """All there is of an account, but for ids."""
    with db.tenant(caller) as tx:
        assert service.check(tx) == []
        entries = service.list_entries(tx, Slice(limit=10_000, before=None))
        lots = service.lots(tx, Slice(limit=10_000, before=None))
        return (
            service.balance(tx),
            [(*_bare(entry), entry.available_after_microusd, entry.held_after_microusd) for entry in entries],
            sorted((lot.source_id, lot.remaining_microusd) for lot in lots),
        )


def fresh_org() -> Caller:
    caller = Caller.system(ids.new(), request_id="test")
    with db.tenant(caller) as tx:
        orgs.create_org(tx, caller, org_id=caller.org_id, name="Acme")
    return caller


def batches(chance: random.Random) -> list[tuple[timedelta, list[Operation]]]:
    """Settlements come first within each batch."""
    asked: list[str] = []
    made: list[tuple[timedelta, list[Operation]]] = []
    for _ in range(6):
        settlements = [
            Settlement(
                source_id=chance.choice([*asked, "never"]),
                amount_microusd=None if chance.random() < 0.3 else chance.randint(0, 40),
            )
            for _ in range(chance.randint(0, 6))
        ]
        holds = [
            HoldAsked(
                source_id=chance.choice(asked) if asked and chance.random() < 0.2 else f"call:{len(made)}:{n}",
                amount_microusd=chance.randint(0, 60),
                expires_at=LATER,
            )
            for n in range(chance.randint(0, 6))
        ]
        asked += [hold.source_id for hold in holds]
        made.append((timedelta(minutes=chance.randint(0, 15)), [*settlements, *holds]))
    return made


@pytest.mark.parametrize("apply", [in_one_go, at_one_till])
@pytest.mark.parametrize(
    ("lots", "ends"),
    [(3, (None, 5, 20, 40)), (45, (None,)), (45, (None, 5, 20, 40))],
    ids=["few lots", "more lots than are read at first", "many lots that end"],
)
def test_many_come_to_the_same_as_one_after_the_other(
    database: str, at: Callable[[datetime], None], apply: Apply, lots: int, ends: Sequence[int | None]
) -> None:
    for seed in range(6):
        chance = random.Random(seed)
        furnished = Furnished([(chance.randint(1, 400 // lots), chance.choice(ends)) for _ in range(lots)])
        at(NOW)
        mine, theirs = fresh_org(), fresh_org()
        furnished.furnish(mine)
        furnished.furnish(theirs)
        moment = NOW
        for later, operations in batches(chance):
            moment += later
            at(moment)
            if apply is at_one_till:
                # There, they may come in any order.
                chance.shuffle(operations)
            with db.tenant(mine) as tx:
                many = apply(tx, mine, operations)
            with db.tenant(theirs) as tx:
                single = one_by_one(tx, theirs, operations)
            assert many == single, seed
            if lots == 45 and len(ends) > 1:
                # Who reads more lots notices more that are over.
                for caller in (mine, theirs):
                    with db.tenant(caller) as tx:
                        service.expire(tx, caller)
                assert lots_and_balance(mine) == lots_and_balance(theirs), seed
            else:
                assert state(mine) == state(theirs), seed


def lots_and_balance(caller: Caller) -> tuple[object, object]:
    balance, _, lots = state(caller)
    return balance, lots


def test_credits_that_a_settlement_gives_back_can_be_held_in_the_same_go(org: Caller, at: object) -> None:
    Furnished([(100, None)]).furnish(org)
    with db.tenant(org) as tx:
        service.hold(tx, org, amount_microusd=100, source_id="first", expires_at=LATER)
        settlement = Settlement(source_id="first", amount_microusd=30)
        hold = HoldAsked(source_id="second", amount_microusd=70, expires_at=LATER)
        assert at_one_till(tx, org, [settlement, hold])[1] == ("second", 70, "open")
    expected = Balance(granted_microusd=100, settled_microusd=30, held_microusd=70, entries=5)
    assert state(org)[0] == expected


def test_whoever_finds_too_little_changes_nothing_and_the_next_may_still_fit(org: Caller, at: object) -> None:
    Furnished([(100, None)]).furnish(org)
    asked = [HoldAsked(source_id=f"call:{n}", amount_microusd=n, expires_at=LATER) for n in (60, 50, 40)]
    with db.tenant(org) as tx:
        first, second, third = service.hold_many(tx, org, asked)
    assert isinstance(first, Hold)
    assert isinstance(second, InsufficientCredits)
    assert second.details == {
        "needed_microusd": 50,
        "available_microusd": 40,
        "lift": "Add credits, or ask for less",
    }
    assert isinstance(third, Hold)


def test_an_account_that_was_never_used_holds_nothing(org: Caller) -> None:
    with db.tenant(org) as tx:
        [refusal] = service.hold_many(tx, org, [HoldAsked(source_id="call", amount_microusd=1, expires_at=LATER)])
        [unknown] = service.settle_many(tx, org, [Settlement(source_id="call", amount_microusd=1)])
    assert isinstance(refusal, InsufficientCredits)
    assert isinstance(unknown, RunyardError)
    assert unknown.code == "hold_not_found"


def test_nothing_is_asked_for_nothing(org: Caller) -> None:
    with db.tenant(org) as tx:
        assert service.hold_many(tx, org, []) == []
        assert service.settle_many(tx, org, []) == []


@pytest.mark.parametrize("amount", [-1, -1_000_000])
def test_less_than_nothing_is_refused_before_anything_is_done(org: Caller, amount: int) -> None:
    with db.tenant(org) as tx:
        with pytest.raises(ValueError, match="less than nothing"):
            service.hold_many(tx, org, [HoldAsked(source_id="call", amount_microusd=amount, expires_at=LATER)])
        with suppress(ValueError):
            service.settle_many(tx, org, [Settlement(source_id="call", amount_microusd=amount)])
    with db.tenant(org) as tx:
        assert service.list_entries(tx, Slice(limit=10, before=None)) == []
