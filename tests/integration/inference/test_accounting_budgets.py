"""A model call counts to the budgets of those whose it is, and is refused where one of them lacks room."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from shared.inference.budgets import Period, Scope
from shared.inference.errors import BudgetExceeded
from shared.kernel import clock, db, ids
from shared.kernel.caller import Caller
from shared.kernel.errors import InsufficientCredits
from tests.integration.inference.calling import (
    Attempt,
    books,
    budget,
    grant,
    on_behalf,
    spent_and_held,
)


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> Callable[[datetime], None]:
    """`at(moment)`: what the clock shows from now on."""

    def set_to(moment: datetime) -> None:
        monkeypatch.setattr(clock, "now", lambda: moment)

    return set_to


def test_what_does_not_pay_holds_no_credits_and_counts_to_budgets(org: Caller) -> None:
    monthly = budget(org, 100, period=Period.MONTH)

    async def work() -> None:
        attempt = Attempt(caller=org, pays=False, most=100)
        assert (await attempt.open()).hold is None
        await attempt.close(40)
        with pytest.raises(BudgetExceeded):
            await Attempt(caller=org, pays=False, most=61).open()

    asyncio.run(work())
    assert books(org).settled == 0
    assert list(spent_and_held(org, monthly).values()) == [(40, 0)]


@pytest.mark.parametrize(
    ("scope", "subject", "mine"),
    [
        (Scope.KEY, "key_1", {"key_id": "key_1"}),
        (Scope.PERSON, "user_1", {"person_id": "user_1"}),
        (Scope.AGENT, "agent_1", {"agent_id": "agent_1"}),
        (Scope.KEY, "", {"key_id": "key_1"}),
    ],
    ids=["key", "person", "agent", "each key"],
)
def test_a_budget_bounds_its_subject_and_nobody_else(
    org: Caller, rival: Caller, scope: Scope, subject: str, mine: dict[str, str]
) -> None:
    budget(org, 100, scope=scope, subject=subject)
    other = {name: f"{value}2" for name, value in mine.items()}

    async def work() -> None:
        await Attempt(caller=on_behalf(org, **mine), pays=False, most=100).open()
        with pytest.raises(BudgetExceeded):
            await Attempt(caller=on_behalf(org, **mine), pays=False, most=1).open()
        await Attempt(caller=on_behalf(org, **other), pays=False, most=100).open()
        await Attempt(caller=on_behalf(rival, **mine), pays=False, most=1_000).open()

    asyncio.run(work())


def test_a_run_has_a_budget_of_its_own(org: Caller) -> None:
    each_run = budget(org, 100, scope=Scope.RUN, period=Period.TOTAL)

    async def work() -> None:
        for run_id in ("run_1", "run_2"):
            await Attempt(caller=on_behalf(org), pays=False, run_id=run_id).go(100)
        with pytest.raises(BudgetExceeded) as refused:
            await Attempt(caller=on_behalf(org), pays=False, run_id="run_1", most=1).open()
        assert refused.value.details is not None
        assert refused.value.details["subject"] == "run_1"

    asyncio.run(work())
    assert spent_and_held(org, each_run) == {("run_1", "1970-01-01"): (100, 0), ("run_2", "1970-01-01"): (100, 0)}


def test_the_narrowest_of_several_budgets_refuses_and_nothing_is_held_of_the_others(org: Caller) -> None:
    grant(org, 10_000)
    wide = budget(org, 1_000)
    narrow = budget(org, 50, scope=Scope.KEY, period=Period.TOTAL)

    async def work() -> None:
        with pytest.raises(BudgetExceeded) as refused:
            await Attempt(caller=org, most=51).open()
        assert refused.value.details is not None
        assert refused.value.details["budget_id"] == ids.show("bud", narrow)

    asyncio.run(work())
    assert spent_and_held(org, wide) == spent_and_held(org, narrow) == {}
    assert books(org).held == 0


def test_too_few_credits_leave_nothing_held_of_a_budget(org: Caller) -> None:
    grant(org, 50)
    daily = budget(org, 1_000)

    async def work() -> None:
        with pytest.raises(InsufficientCredits):
            await Attempt(caller=org, most=51).open()

    asyncio.run(work())
    assert spent_and_held(org, daily) == {}


def test_a_limit_of_nothing_refuses_even_what_costs_nothing(org: Caller) -> None:
    grant(org, 50)
    budget(org, 0)

    async def work() -> None:
        with pytest.raises(BudgetExceeded):
            await Attempt(caller=org, most=0).open()

    asyncio.run(work())


def test_a_day_is_settled_in_the_day_it_was_opened(org: Caller, at: Callable[[datetime], None]) -> None:
    grant(org, 10_000)
    daily, monthly = budget(org, 100), budget(org, 200, period=Period.MONTH)

    async def work() -> None:
        at(datetime(2026, 11, 30, 23, 59, 59, tzinfo=UTC))
        before = Attempt(caller=org, most=100)
        await before.open()
        with pytest.raises(BudgetExceeded):
            await Attempt(caller=org, most=100).open()
        at(datetime(2026, 12, 1, tzinfo=UTC))
        after = Attempt(caller=org, most=100)
        await after.open()
        await before.close(70)
        await after.close(40)

    asyncio.run(work())
    assert spent_and_held(org, daily) == {("", "2026-11-30"): (70, 0), ("", "2026-12-01"): (40, 0)}
    assert spent_and_held(org, monthly) == {("", "2026-11-01"): (70, 0), ("", "2026-12-01"): (40, 0)}


def test_a_budget_that_is_deleted_meanwhile_keeps_no_call_from_being_paid(org: Caller) -> None:
    grant(org, 1_000)
    daily = budget(org, 1_000)

    async def work() -> None:
        attempt = Attempt(caller=org)
        await attempt.open()
        with db.tenant(org) as tx:
            tx.execute("DELETE FROM inference_budgets WHERE id = %s", (daily,))
        await attempt.close(30)

    asyncio.run(work())
    assert books(org).settled == 30
