"""Which budgets a call counts to, when a period begins and ends, and what a refusal tells."""

from datetime import UTC, date, datetime, timedelta, timezone

import pytest

from shared.inference.budgets import Account, Budget, Period, Scope, Spender, Spending, accounts
from shared.kernel import ids
from shared.kernel.caller import Attribution

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
KEY, PERSON, AGENT, RUN = "key_1", "user_1", "agent_1", "run_1"


def budget(scope: Scope, subject: str = "", period: Period = Period.DAY, limit: int = 100) -> Budget:
    return Budget(ids.new(), scope, subject, period, limit)


@pytest.mark.parametrize(
    ("period", "moment", "start"),
    [
        (Period.DAY, NOON, date(2026, 11, 21)),
        (Period.DAY, datetime(2026, 11, 21, 23, 59, 59, 999_999, tzinfo=UTC), date(2026, 11, 21)),
        (Period.DAY, datetime(2026, 11, 22, tzinfo=UTC), date(2026, 11, 22)),
        (Period.DAY, datetime(2026, 11, 22, 1, tzinfo=timezone(timedelta(hours=2))), date(2026, 11, 21)),
        (Period.MONTH, NOON, date(2026, 11, 1)),
        (Period.TOTAL, NOON, date(1970, 1, 1)),
    ],
    ids=["day", "last moment of a day", "first moment of a day", "another zone", "month", "total"],
)
def test_a_period_begins_by_utc(period: Period, moment: datetime, start: date) -> None:
    assert period.start(moment) == start


@pytest.mark.parametrize(
    ("period", "start", "resets_at"),
    [
        (Period.DAY, date(2026, 12, 31), datetime(2027, 1, 1, tzinfo=UTC)),
        (Period.MONTH, date(2026, 2, 1), datetime(2026, 3, 1, tzinfo=UTC)),
        (Period.MONTH, date(2026, 12, 1), datetime(2027, 1, 1, tzinfo=UTC)),
        (Period.TOTAL, date(1970, 1, 1), None),
    ],
    ids=["new year", "short month", "december", "never"],
)
def test_a_period_is_over_when_the_next_begins(period: Period, start: date, resets_at: datetime | None) -> None:
    assert period.resets_at(start) == resets_at


@pytest.mark.parametrize(
    ("attribution", "run_id", "counted"),
    [
        (Attribution(), "", {"org"}),
        (Attribution(key_id=KEY), "", {"org", "every key", "this key"}),
        (Attribution(person_id=PERSON), "", {"org", "every person"}),
        (Attribution(key_id=KEY, agent_id=AGENT), RUN, {"org", "every key", "this key", "this agent", "every run"}),
    ],
    ids=["nobody's", "a key's", "a person's", "a run's of a key"],
)
def test_a_call_counts_to_the_budgets_of_those_whose_it_is(
    attribution: Attribution, run_id: str, counted: set[str]
) -> None:
    named = {
        "org": budget(Scope.ORG),
        "every key": budget(Scope.KEY),
        "this key": budget(Scope.KEY, KEY, Period.MONTH),
        "another key": budget(Scope.KEY, "key_2"),
        "every person": budget(Scope.PERSON),
        "this agent": budget(Scope.AGENT, AGENT),
        "another agent": budget(Scope.AGENT, "agent_2"),
        "every run": budget(Scope.RUN, "", Period.TOTAL),
    }
    found = accounts(named.values(), Spender.of(attribution, run_id), NOON)
    assert {name for name, each in named.items() if each in [budget for budget, _ in found]} == counted


def test_a_budget_for_each_subject_is_spent_by_each_alone() -> None:
    each_key = budget(Scope.KEY)
    for key in ("key_1", "key_2"):
        [(_, account)] = accounts([each_key], Spender.of(Attribution(key_id=key), ""), NOON)
        assert account == Account(each_key.id, key, date(2026, 11, 21))


@pytest.mark.parametrize(
    ("spent", "held", "most", "lacks", "may"),
    [
        (0, 0, 100, False, True),
        (0, 0, 101, True, False),
        (60, 0, 40, False, True),
        (60, 1, 40, True, True),
        (61, 0, 40, True, False),
    ],
    ids=["all of it", "one too much", "the rest", "held by others", "spent by others"],
)
def test_room_is_what_is_neither_spent_nor_held(spent: int, held: int, most: int, lacks: bool, may: bool) -> None:
    of_the_org = budget(Scope.ORG)
    spending = Spending(of_the_org, Account(of_the_org.id, "", date(2026, 11, 21)), spent, held)
    assert (spending.lacks(most), spending.may_have_room(most)) == (lacks, may)


def test_a_refusal_tells_which_budget_and_when_it_begins_anew() -> None:
    of_a_key = budget(Scope.KEY, KEY, Period.DAY, limit=1_000_000)
    spending = Spending(of_a_key, Account(of_a_key.id, KEY, date(2026, 11, 21)), 900_000, 50_000)
    refusal = spending.exceeded(60_000)
    assert refusal.code == "budget_exceeded"
    assert "$0.060000" in refusal.message
    assert "$0.050000 is left" in refusal.message
    assert "2026-11-22T00:00:00+00:00" in refusal.message
    assert refusal.details == {
        "budget_id": ids.show("bud", of_a_key.id),
        "scope": "key",
        "subject": KEY,
        "period": "day",
        "limit_microusd": 1_000_000,
        "spent_microusd": 900_000,
        "held_microusd": 50_000,
        "needed_microusd": 60_000,
        "resets_at": "2026-11-22T00:00:00+00:00",
    }
