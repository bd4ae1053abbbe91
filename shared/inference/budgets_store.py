"""SQL of what is spent and held of budgets. Whoever changes it locks the spending rows first, all in the same order."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import LiteralString
from uuid import UUID

from psycopg import Cursor

from shared.inference.budgets import Account, Budget, Period, Scope
from shared.kernel import db
from shared.kernel.arrays import moments, plain, texts
from shared.kernel.db import Row, Tx

# What these subjects spend now of the budgets that are for them, by name or for each by itself, and what these calls
# hold; null where there is no row yet. The inner query is done row by row: everybody locks in the same order.
LOCK: LiteralString = """
    SELECT wanted.*, locked.spent_microusd, locked.held_microusd
      FROM (
        SELECT budget.id AS budget_id, account.subject, account.period_start, budget.scope, budget.subject AS named,
               budget.period, budget.limit_microusd
          FROM (
            SELECT budget.id, spender.subject,
                   CASE budget.period WHEN 'day' THEN %(day)s::date WHEN 'month' THEN %(month)s::date
                                      ELSE %(always)s::date END AS period_start
              FROM unnest(%(scopes)s::text[], %(subjects)s::text[]) AS spender (scope, subject)
              JOIN inference_budgets budget
                ON budget.scope = spender.scope AND (budget.subject = spender.subject OR budget.subject = '')
             UNION
            SELECT budget_id, subject, period_start FROM inference_budget_holds
             WHERE call_id = ANY(%(calls)s::uuid[])
          ) AS account
          JOIN inference_budgets budget ON budget.id = account.id
         ORDER BY budget.id, account.subject, account.period_start
      ) AS wanted
      LEFT JOIN LATERAL (
        SELECT spending.spent_microusd, spending.held_microusd FROM inference_budget_spending spending
         WHERE spending.budget_id = wanted.budget_id AND spending.subject = wanted.subject
           AND spending.period_start = wanted.period_start
           FOR UPDATE
      ) AS locked ON true
"""
HOLDS: LiteralString = """
    SELECT call_id, budget_id, subject, period_start, amount_microusd
      FROM inference_budget_holds WHERE call_id = ANY(%(calls)s::uuid[])
"""
BEGIN: LiteralString = """
    INSERT INTO inference_budget_spending (org_id, budget_id, subject, period_start)
    SELECT budget.org_id, budget.id, begun.subject, begun.period_start
      FROM unnest(%(budgets)s::uuid[], %(subjects)s::text[], %(periods)s::date[])
           AS begun (budget_id, subject, period_start)
      JOIN inference_budgets budget ON budget.id = begun.budget_id
     ORDER BY budget.id, begun.subject, begun.period_start
    ON CONFLICT DO NOTHING
"""
MOVE: LiteralString = """
    UPDATE inference_budget_spending spending
       SET spent_microusd = spending.spent_microusd + moved.spent, held_microusd = spending.held_microusd + moved.held
      FROM unnest(%(budgets)s::uuid[], %(subjects)s::text[], %(periods)s::date[], %(spent)s::bigint[],
                  %(held)s::bigint[]) AS moved (budget_id, subject, period_start, spent, held)
     WHERE spending.budget_id = moved.budget_id AND spending.subject = moved.subject
       AND spending.period_start = moved.period_start
"""
CLOSE: LiteralString = "DELETE FROM inference_budget_holds WHERE call_id = ANY(%(calls)s::uuid[])"
OPEN: LiteralString = """
    INSERT INTO inference_budget_holds (org_id, call_id, budget_id, subject, period_start, amount_microusd, expires_at)
    SELECT %(org_id)s, held.*
      FROM unnest(%(calls)s::uuid[], %(budgets)s::uuid[], %(subjects)s::text[], %(periods)s::date[],
                  %(amounts)s::bigint[], %(expires)s::timestamptz[]) AS held
"""
OVERDUE: LiteralString = "SELECT DISTINCT call_id FROM inference_budget_holds WHERE expires_at < %(now)s"
ORGS_WITH_OVERDUE: LiteralString = "SELECT orgs_with_expired_budget_holds() AS org_id"


@dataclass(frozen=True, slots=True)
class Held:
    """What a call holds of a budget."""

    call_id: UUID
    account: Account
    amount_microusd: int
    expires_at: datetime | None = None


@dataclass(slots=True)
class Moved:
    """By how much an account changes."""

    spent_microusd: int = 0
    held_microusd: int = 0


@dataclass(frozen=True, slots=True)
class Asked:
    """What was asked within a pipeline: `answer` waits for it."""

    locked: Cursor[Row]
    held: Cursor[Row] | None

    def answer(self) -> tuple[list[Budget], dict[Account, tuple[int, int]], list[Held]]:
        """Return the budgets, what is spent and held of their locked accounts, and what the calls hold."""
        budgets: dict[UUID, Budget] = {}
        figures: dict[Account, tuple[int, int]] = {}
        for row in self.locked:
            budgets[row["budget_id"]] = Budget(
                row["budget_id"], Scope(row["scope"]), row["named"], Period(row["period"]), row["limit_microusd"]
            )
            if row["spent_microusd"] is not None:
                figures[_account(row)] = (row["spent_microusd"], row["held_microusd"])
        held = [Held(row["call_id"], _account(row), row["amount_microusd"]) for row in self.held or ()]
        return list(budgets.values()), figures, held


def ask(tx: Tx, spenders: Iterable[tuple[Scope, str]], calls: Sequence[UUID], *, moment: datetime) -> Asked:
    """Lock what these subjects spend in the periods of the moment, and what these calls hold; ask what that is."""
    named = sorted(set(spenders))
    held = {"calls": plain(calls)}
    subjects = {
        "scopes": plain([scope.value for scope, _ in named]),
        "subjects": texts([subject for _, subject in named]),
        "day": Period.DAY.start(moment),
        "month": Period.MONTH.start(moment),
        "always": Period.TOTAL.start(moment),
    }
    return Asked(locked=tx.execute(LOCK, subjects | held), held=tx.execute(HOLDS, held) if calls else None)


def begin(tx: Tx, accounts: Iterable[Account]) -> None:
    """Make the rows of accounts of which nothing was ever spent."""
    tx.execute(BEGIN, _columns(sorted(accounts)))


def move(tx: Tx, moved: Mapping[Account, Moved]) -> None:
    """Change locked accounts."""
    figures = {
        "spent": plain([each.spent_microusd for each in moved.values()]),
        "held": plain([each.held_microusd for each in moved.values()]),
    }
    tx.execute(MOVE, _columns(moved) | figures)


def close_holds(tx: Tx, calls: Iterable[UUID]) -> None:
    tx.execute(CLOSE, {"calls": plain(calls)})


def open_holds(tx: Tx, org_id: UUID, holds: Sequence[Held]) -> None:
    values = {
        "org_id": org_id,
        "calls": plain([held.call_id for held in holds]),
        "amounts": plain([held.amount_microusd for held in holds]),
        "expires": moments([held.expires_at for held in holds]),
    }
    tx.execute(OPEN, _columns([held.account for held in holds]) | values)


def overdue(tx: Tx, *, now: datetime) -> list[UUID]:
    """Return the calls whose time is up."""
    return [row["call_id"] for row in tx.execute(OVERDUE, {"now": now})]


def orgs_with_overdue() -> list[UUID]:
    """Return the tenants with such calls."""
    with db.anonymous() as tx:
        return [row["org_id"] for row in tx.execute(ORGS_WITH_OVERDUE)]


def _columns(accounts: Iterable[Account]) -> dict[str, object]:
    accounts = list(accounts)
    return {
        "budgets": plain([account.budget_id for account in accounts]),
        "subjects": texts([account.subject for account in accounts]),
        "periods": plain([account.period_start for account in accounts]),
    }


def _account(row: Row) -> Account:
    return Account(row["budget_id"], row["subject"], row["period_start"])
