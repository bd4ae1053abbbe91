"""Public JSON of plans and subscriptions."""

from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import Field

from shared.billing.plan_changes import PlanChange, Subscription
from shared.kernel.fields import Input, OrgId, Output
from shared.kernel.rates import RateKind
from shared.quotas.model import Limits
from shared.quotas.plans import PLANS, Allowance, Feature, Plan, Resource
from shared.quotas.schemas import RateOut

type PlanName = Annotated[str, Field(min_length=1, max_length=50, description="The id of a plan.", examples=["pro"])]
type Microusd = Annotated[int, Field(ge=0, examples=[14_500_000])]


class PlanOut(Output):
    """A plan: its price, its limits, its features and the credits it includes. In limits, null is without limit."""

    id: str = Field(examples=["pro"])
    object: Literal["plan"] = "plan"
    price_month_microusd: int | None = Field(description="Null: agreed with each customer.", examples=[29_000_000])
    included_credits_microusd: int = Field(examples=[20_000_000])
    included: Literal["once", "monthly"] = Field(
        description="`once`: with a new org, and without an end. `monthly`: each month, until the next begins."
    )
    retention_days: int | None = Field(
        description="Ended runs and sandboxes are kept for so many days. Null: for good.", examples=[30]
    )
    features: list[Feature]
    monthly: dict[Allowance, int | None] = Field(description="What can be used in a calendar month, in UTC.")
    quotas: dict[Resource, int | None] = Field(description="What can be held at once.")
    rates: dict[RateKind, RateOut] = Field(description="Requests of the whole org.")

    @classmethod
    def of(cls, plan: Plan) -> Self:
        return cls(
            id=plan.name,
            price_month_microusd=plan.price_month_microusd,
            included_credits_microusd=plan.included_credits_microusd,
            included="monthly" if plan.included_every_month else "once",
            retention_days=plan.retention_days,
            features=sorted(plan.features),
            monthly=dict(plan.monthly),
            quotas=dict(plan.quotas),
            rates={kind: RateOut.of(rate) for kind, rate in plan.org.items()},
        )


class SubscriptionOut(Output):
    """An org's plan and the month of it that is running."""

    object: Literal["subscription"] = "subscription"
    org_id: OrgId
    plan: str = Field(examples=["pro"])
    price_month_microusd: int | None = Field(description="Null: agreed apart.", examples=[29_000_000])
    period_start: datetime
    period_end: datetime = Field(description="The credits included in the month can be spent until then.")
    features: list[Feature]
    retention_days: int | None = Field(description="Null: for good.", examples=[30])

    @classmethod
    def of(cls, subscription: Subscription, limits: Limits) -> Self:
        plan = PLANS[subscription.plan]
        return cls(
            org_id=subscription.org_id,
            plan=plan.name,
            price_month_microusd=plan.price_month_microusd,
            period_start=subscription.period_start,
            period_end=subscription.period_end,
            features=sorted(plan.features),
            retention_days=limits.retention_days,
        )


class ChangePlan(Input):
    """The plan to move to."""

    plan: PlanName


class ObstacleOut(Output):
    """Something of which the org holds more than the plan allows."""

    resource: Resource
    limit: int = Field(examples=[1])
    used: int = Field(examples=[4])
    lift: str = Field(examples=["Remove one or make one a viewer"])


class PlanChangeOut(Output):
    """What a change of plan means: what it costs now, the credits it brings, and what stands in its way."""

    object: Literal["plan_change"] = "plan_change"
    plan_before: str = Field(examples=["free"])
    plan: str = Field(examples=["pro"])
    at: datetime
    period_end: datetime
    credit_microusd: Microusd = Field(description="What the unused part of the plan before is worth.")
    charge_microusd: Microusd = Field(description="The rest of the period in this plan, with the credits that stay.")
    due_microusd: Microusd = Field(description="What is to be paid now: the charge less the credit.")
    included_microusd: Microusd = Field(description="Credits granted at once, good until the period ends.")
    retention_days: int | None = Field(
        description="What ended longer ago is deleted in the night after. Null: kept for good.", examples=[30]
    )
    obstacles: list[ObstacleOut] = Field(description="All that must be freed before.")

    @classmethod
    def of(cls, change: PlanChange) -> Self:
        return cls(
            plan_before=change.before.name,
            plan=change.after.name,
            at=change.at,
            period_end=change.period_end,
            credit_microusd=change.credit_microusd,
            charge_microusd=change.charge_microusd,
            due_microusd=change.due_microusd,
            included_microusd=change.included_microusd,
            retention_days=change.retention_days,
            obstacles=[
                ObstacleOut(resource=each.resource, limit=each.limit, used=each.used, lift=each.lift)
                for each in change.obstacles
            ],
        )
