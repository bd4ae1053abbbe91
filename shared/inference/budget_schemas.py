"""Public JSON of budgets."""

from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import Field

from shared.inference.budget_setup import Standing
from shared.inference.budget_setup_store import Share
from shared.inference.budgets import Period, Scope
from shared.kernel.fields import BudgetId, Input, Output

Limit = Annotated[
    int, Field(ge=0, le=10**15, description="In micro-dollars; 0: nothing may be spent.", examples=[5_000_000])
]


class CreateBudget(Input):
    scope: Annotated[Scope, Field(description="Whose model calls it is for.", examples=["org"])]
    subject: Annotated[
        str,
        Field(
            max_length=64,
            description="The id of the key, person, agent or run; empty: each of them by itself, or the org.",
        ),
    ] = ""
    period: Annotated[Period, Field(description="By UTC; `total` never begins anew.", examples=["month"])]
    limit_microusd: Limit


class UpdateBudget(Input):
    limit_microusd: Limit


class ShareOut(Output):
    subject: str
    spent_microusd: int
    held_microusd: int

    @classmethod
    def of(cls, share: Share) -> Self:
        return cls(subject=share.subject, spent_microusd=share.spent_microusd, held_microusd=share.held_microusd)


class BudgetOut(Output):
    """A budget, and how it stands in its present period."""

    id: BudgetId
    object: Literal["budget"] = "budget"
    scope: Scope
    subject: str
    period: Period
    limit_microusd: int
    spent_microusd: int = Field(description="By all subjects together.")
    held_microusd: int = Field(description="For calls under way, by all subjects together.")
    subjects: list[ShareOut] = Field(description="The twenty with the most of it, where each has one by itself.")
    resets_at: datetime | None = Field(description="When it begins anew.")
    created_by: str = Field(examples=["user_01h455vb4pex5vsknk084sn02q"])
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, standing: Standing) -> Self:
        stored = standing.stored
        budget = stored.budget
        each = budget.scope is not Scope.ORG and not budget.subject
        return cls(
            id=budget.id,
            scope=budget.scope,
            subject=budget.subject,
            period=budget.period,
            limit_microusd=budget.limit_microusd,
            spent_microusd=stored.spent_microusd,
            held_microusd=stored.held_microusd,
            subjects=[ShareOut.of(share) for share in stored.shares] if each else [],
            resets_at=standing.resets_at,
            created_by=stored.created_by,
            created_at=stored.created_at,
            updated_at=stored.updated_at,
        )
