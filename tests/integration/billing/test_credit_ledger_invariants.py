"""Whatever is done to a ledger, in whatever order, twice or interrupted: it stays sound and equal to a simple model."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from shared.billing import service
from shared.kernel import clock, db, ids
from shared.kernel.caller import Caller
from shared.kernel.db import Tx
from shared.kernel.errors import RunyardError
from shared.orgs import service as orgs

AMOUNTS = st.integers(0, 120)
SOURCES = st.sampled_from(["a", "b", "c", "d", "e"])
INTERRUPTED = st.sampled_from([False, False, False, True])


class Crash(Exception):
    """The function is killed before it commits."""


class Ledger(RuleBasedStateMachine):
    """Drives a new tenant's ledger and, beside it, a model of what must come of it."""

    def __init__(self) -> None:
        super().__init__()
        self.caller = Caller.system(ids.new())
        org_id = self.caller.org_id
        with db.tenant(self.caller) as tx:
            orgs.create_org(tx, self.caller, org_id=org_id, name="Property")
        self.added: dict[tuple[str, str], int] = {}
        self.holds: dict[str, tuple[str, int, int]] = {}  # source -> status, held, settled
        self.overdue: set[str] = set()

    @property
    def spent(self) -> int:
        return sum(settled for _, _, settled in self.holds.values())

    @property
    def held(self) -> int:
        return sum(amount for status, amount, _ in self.holds.values() if status == "open")

    @property
    def available(self) -> int:
        return sum(self.added.values()) - self.spent - self.held

    def refunded(self) -> int:
        return sum(amount for (kind, _), amount in self.added.items() if kind == "refund")

    def attempt(self, operation: Callable[[Tx], Any], *, interrupted: bool, may: bool) -> bool:
        """Do it and return whether it took effect; `may` says whether the rules allow it."""
        try:
            with db.tenant(self.caller) as tx:
                operation(tx)
                if interrupted:
                    raise Crash
        except Crash:
            assert may
            return False
        except RunyardError:
            assert not may
            return False
        assert may
        return True

    @rule(source=SOURCES, amount=AMOUNTS, interrupted=INTERRUPTED, kind=st.sampled_from(["grant", "refund"]))
    def add(self, source: str, amount: int, interrupted: bool, kind: str) -> None:
        first = self.added.get((kind, source))
        known = first is not None and first == amount
        fits = kind == "grant" or amount <= self.spent - self.refunded()
        operation = service.grant if kind == "grant" else service.refund
        if self.attempt(
            lambda tx: operation(tx, self.caller, amount_microusd=amount, source_id=source, reason="property"),
            interrupted=interrupted,
            may=amount > 0 and (known or (first is None and fits)),
        ):
            self.added[kind, source] = amount

    @rule(source=SOURCES, amount=AMOUNTS, interrupted=INTERRUPTED, overdue=st.booleans())
    def hold(self, source: str, amount: int, interrupted: bool, overdue: bool) -> None:
        known = source in self.holds
        expires_at = clock.now() + timedelta(hours=-1 if overdue else 1)
        if self.attempt(
            lambda tx: service.hold(tx, self.caller, amount_microusd=amount, source_id=source, expires_at=expires_at),
            interrupted=interrupted,
            may=known or amount <= self.available,
        ):
            self.holds.setdefault(source, ("open", amount, 0))
            if overdue and not known:
                self.overdue.add(source)

    @rule(source=SOURCES, amount=AMOUNTS, interrupted=INTERRUPTED)
    def settle(self, source: str, amount: int, interrupted: bool) -> None:
        status, held, settled = self.holds.get(source, ("unknown", 0, 0))
        again = status == "settled" and settled == amount
        if self.attempt(
            lambda tx: service.settle(tx, self.caller, source_id=source, amount_microusd=amount),
            interrupted=interrupted,
            may=again or (status == "open" and amount <= held),
        ):
            self.holds[source] = ("settled", held, amount)

    @rule(source=SOURCES, interrupted=INTERRUPTED)
    def release(self, source: str, interrupted: bool) -> None:
        status, held, _ = self.holds.get(source, ("unknown", 0, 0))
        if self.attempt(
            lambda tx: service.release(tx, self.caller, source_id=source),
            interrupted=interrupted,
            may=status in ("open", "released"),
        ):
            self.holds[source] = ("released", held, 0)

    @rule(interrupted=INTERRUPTED)
    def reap(self, interrupted: bool) -> None:
        if self.attempt(lambda tx: service.release_expired(tx, self.caller), interrupted=interrupted, may=True):
            for source in self.overdue:
                status, held, _ = self.holds[source]
                if status == "open":
                    self.holds[source] = ("released", held, 0)

    @invariant()
    def the_ledger_is_sound_and_says_what_the_model_says(self) -> None:
        with db.tenant(self.caller) as tx:
            assert service.check(tx) == []
            balance = service.balance(tx)
        assert balance.available_microusd == self.available >= 0
        assert (balance.held_microusd, balance.settled_microusd) == (self.held, self.spent)


def test_the_ledger_stays_sound_whatever_is_done_to_it(database: str) -> None:
    run_state_machine_as_test(
        Ledger,
        settings=settings(
            max_examples=20,
            stateful_step_count=25,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
