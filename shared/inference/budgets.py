"""Budgets: what calls may cost an org, or one key, person, agent or run of it, in a day, a month or altogether."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from uuid import UUID

from shared.inference.errors import BudgetExceeded
from shared.kernel import ids
from shared.kernel.caller import Attribution
from shared.kernel.money import show_usd

# Where the one period of a budget without an end begins.
_ALWAYS = date(1970, 1, 1)


class Scope(StrEnum):
    """Whose calls a budget is for."""

    ORG = "org"
    KEY = "key"
    PERSON = "person"
    AGENT = "agent"
    RUN = "run"


class Period(StrEnum):
    """After what time a budget begins anew, by UTC; `TOTAL`: never."""

    DAY = "day"
    MONTH = "month"
    TOTAL = "total"

    def start(self, moment: datetime) -> date:
        """Return the first day of the period in which the moment lies."""
        day = moment.astimezone(UTC).date()
        match self:
            case Period.DAY:
                return day
            case Period.MONTH:
                return day.replace(day=1)
            case Period.TOTAL:
                return _ALWAYS

    def resets_at(self, start: date) -> datetime | None:
        """Return when the period that began on this day is over."""
        match self:
            case Period.DAY:
                following = start + timedelta(days=1)
            case Period.MONTH:
                following = (start + timedelta(days=31)).replace(day=1)
            case Period.TOTAL:
                return None
        return datetime.combine(following, time(), UTC)


@dataclass(frozen=True, slots=True)
class Budget:
    """`subject` is who it is for, by public id; empty: the org, or each subject of the scope by itself."""

    id: UUID
    scope: Scope
    subject: str
    period: Period
    limit_microusd: int


@dataclass(frozen=True, slots=True)
class Spender:
    """Whose spending a call is: one subject at most for each scope."""

    subjects: tuple[tuple[Scope, str], ...]

    @classmethod
    def of(cls, attribution: Attribution, run_id: str) -> "Spender":
        named = (
            (Scope.KEY, attribution.key_id),
            (Scope.PERSON, attribution.person_id),
            (Scope.AGENT, attribution.agent_id),
            (Scope.RUN, run_id),
        )
        return cls(((Scope.ORG, ""), *((scope, subject) for scope, subject in named if subject)))


@dataclass(frozen=True, slots=True, order=True)
class Account:
    """What of a budget one subject spends in one period; all who lock several do so in this order."""

    budget_id: UUID
    subject: str
    period_start: date


@dataclass(slots=True)
class Spending:
    """A locked account as it stands, with the calls of this transaction."""

    budget: Budget
    account: Account
    spent_microusd: int
    held_microusd: int

    def lacks(self, most_microusd: int) -> bool:
        """Return whether there is no room for a call of this cost now."""
        return self.spent_microusd + self.held_microusd + most_microusd > self.budget.limit_microusd

    def may_have_room(self, most_microusd: int) -> bool:
        """Return whether there would be, did the calls under way cost nothing."""
        return self.spent_microusd + most_microusd <= self.budget.limit_microusd

    def exceeded(self, most_microusd: int) -> BudgetExceeded:
        """Return why a call of this cost is refused."""
        budget, start = self.budget, self.account.period_start
        resets_at = budget.period.resets_at(start)
        left = max(0, budget.limit_microusd - self.spent_microusd - self.held_microusd)
        whose = "the org" if budget.scope is Scope.ORG else f"the {budget.scope} {self.account.subject}"
        when = "It has no end" if resets_at is None else f"It begins anew at {resets_at.isoformat()}"
        return BudgetExceeded(
            f"This costs up to {show_usd(most_microusd)}, and {show_usd(left)} is left of the budget of "
            f"{show_usd(budget.limit_microusd)} of {whose}. {when}; raise the budget, or ask for less.",
            details={
                "budget_id": ids.show("bud", budget.id),
                "scope": budget.scope.value,
                "subject": self.account.subject,
                "period": budget.period.value,
                "limit_microusd": budget.limit_microusd,
                "spent_microusd": self.spent_microusd,
                "held_microusd": self.held_microusd,
                "needed_microusd": most_microusd,
                "resets_at": None if resets_at is None else resets_at.isoformat(),
            },
        )


def accounts(budgets: Iterable[Budget], spender: Spender, moment: datetime) -> list[tuple[Budget, Account]]:
    """Return which of these budgets a call counts to that begins at this moment, and where."""
    of_scope = dict(spender.subjects)
    return [
        (budget, Account(budget.id, of_scope[budget.scope], budget.period.start(moment)))
        for budget in budgets
        if budget.scope in of_scope and budget.subject in ("", of_scope[budget.scope])
    ]
