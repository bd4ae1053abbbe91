"""SQL that sets budgets up and reads how they stand."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, LiteralString
from uuid import UUID

from psycopg.errors import UniqueViolation

from shared.inference.budgets import Budget, Period, Scope
from shared.kernel.db import Row, Tx
from shared.kernel.errors import Conflict
from shared.kernel.pagination import Slice

# The subjects that spent the most, of a budget that each has by itself.
TOLD_SUBJECTS = 20

INSERT: LiteralString = """
    INSERT INTO inference_budgets (id, org_id, scope, subject, period, limit_microusd, created_by)
    VALUES (%(id)s, current_setting('app.current_org_id')::uuid, %(scope)s, %(subject)s, %(period)s,
            %(limit_microusd)s, %(created_by)s)
"""
_STANDING: LiteralString = """
    SELECT budget.id, budget.scope, budget.subject, budget.period, budget.limit_microusd, budget.created_by,
           budget.created_at, budget.updated_at, present.spent, present.held, present.subjects
      FROM inference_budgets budget
     CROSS JOIN LATERAL (
        SELECT coalesce(sum(ranked.spent_microusd), 0)::bigint AS spent,
               coalesce(sum(ranked.held_microusd), 0)::bigint AS held,
               coalesce(jsonb_agg(jsonb_build_array(ranked.subject, ranked.spent_microusd, ranked.held_microusd)
                                  ORDER BY ranked.place) FILTER (WHERE ranked.place <= %(told)s), '[]') AS subjects
          FROM (
            SELECT spending.subject, spending.spent_microusd, spending.held_microusd,
                   row_number() OVER (ORDER BY spending.spent_microusd + spending.held_microusd DESC,
                                               spending.subject) AS place
              FROM inference_budget_spending spending
             WHERE spending.budget_id = budget.id
               AND spending.period_start = CASE budget.period WHEN 'day' THEN %(day)s::date
                                                              WHEN 'month' THEN %(month)s::date
                                                              ELSE %(total)s::date END
          ) ranked
     ) present
"""
LIST: LiteralString = (
    _STANDING + " WHERE %(before)s::uuid IS NULL OR budget.id < %(before)s ORDER BY budget.id DESC LIMIT %(limit)s"
)
FIND: LiteralString = _STANDING + " WHERE budget.id = %(id)s"
COUNT: LiteralString = "SELECT count(*) AS found FROM inference_budgets"
LOCK: LiteralString = "SELECT FROM inference_budgets WHERE id = %(id)s FOR UPDATE"
SET_LIMIT: LiteralString = """
    UPDATE inference_budgets SET limit_microusd = %(limit_microusd)s, updated_at = now() WHERE id = %(id)s
"""
DELETE: LiteralString = "DELETE FROM inference_budgets WHERE id = %(id)s"


class BudgetExists(Conflict):
    """There is a budget for the same subject and period; change its limit."""

    code = "budget_exists"


@dataclass(frozen=True, slots=True)
class Share:
    """What one subject has spent of a budget in the present period, and holds."""

    subject: str
    spent_microusd: int
    held_microusd: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredBudget:
    """A budget with what all its subjects have spent in the present period; `shares` of those with the most."""

    budget: Budget
    spent_microusd: int
    held_microusd: int
    shares: tuple[Share, ...]
    created_by: str
    created_at: datetime
    updated_at: datetime


def insert(tx: Tx, budget: Budget, *, created_by: str) -> None:
    """Store a new budget; raise `BudgetExists`."""
    values = {
        "id": budget.id,
        "scope": budget.scope.value,
        "subject": budget.subject,
        "period": budget.period.value,
        "limit_microusd": budget.limit_microusd,
        "created_by": created_by,
    }
    try:
        tx.execute(INSERT, values)
    except UniqueViolation as error:
        raise BudgetExists("There is a budget for this already; change its limit.", param="period") from error


def list_budgets(tx: Tx, asked: Slice, *, now: datetime) -> list[StoredBudget]:
    values = _present(now) | {"before": asked.before, "limit": asked.limit + 1}
    return [_stored(row) for row in tx.execute(LIST, values)]


def find(tx: Tx, budget_id: UUID, *, now: datetime) -> StoredBudget | None:
    row = tx.execute(FIND, _present(now) | {"id": budget_id}).fetchone()
    return None if row is None else _stored(row)


def count(tx: Tx) -> int:
    row = tx.execute(COUNT).fetchone()
    return 0 if row is None else int(row["found"])


def lock(tx: Tx, budget_id: UUID) -> None:
    tx.execute(LOCK, {"id": budget_id})


def set_limit(tx: Tx, budget_id: UUID, limit_microusd: int) -> None:
    tx.execute(SET_LIMIT, {"id": budget_id, "limit_microusd": limit_microusd})


def delete(tx: Tx, budget_id: UUID) -> None:
    tx.execute(DELETE, {"id": budget_id})


def _present(now: datetime) -> dict[str, Any]:
    starts: dict[str, Any] = {period.value: period.start(now) for period in Period}
    return starts | {"told": TOLD_SUBJECTS}


def _stored(row: Row) -> StoredBudget:
    return StoredBudget(
        budget=Budget(row["id"], Scope(row["scope"]), row["subject"], Period(row["period"]), row["limit_microusd"]),
        spent_microusd=row["spent"],
        held_microusd=row["held"],
        shares=tuple(Share(*share) for share in row["subjects"]),
        created_by=row["created_by"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )
