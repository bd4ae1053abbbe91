"""Changing a plan is billed to the microsecond: the unused part of the old one counts for the rest of the new one.

Credits that a plan brings each month are given for its share of the period, and stay until the period ends: whoever
moves to a smaller plan keeps them, and whoever moves back is not given them again.
"""

from calendar import monthrange
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Self
from uuid import UUID

from shared.kernel.errors import Conflict, InvalidRequest, Kind, RunyardError
from shared.kernel.money import price, show_usd
from shared.quotas.model import LIFTED_BY, Limits, QuotaStatus
from shared.quotas.plans import Plan, Resource

_MICROSECOND = timedelta(microseconds=1)


class PlanNotOffered(InvalidRequest):
    """This plan is agreed with each customer: ask the operator for it."""

    code = "plan_not_offered"


class PaymentRequired(RunyardError):
    """This change of plan costs something now, and nothing was paid; the message says how much."""

    kind = Kind.PAYMENT
    code = "payment_required"


class PlanDowngradeBlocked(Conflict):
    """The org holds more than the smaller plan allows; `details.obstacles` lists all that stands in the way."""

    code = "plan_downgrade_blocked"


@dataclass(frozen=True, slots=True)
class Subscription:
    """An org's plan and the month of it that is running, counted from `anchor`, its first moment.

    `monthly_microusd` is the largest month's credits of which the org was given its share for this period.
    """

    org_id: UUID
    plan: str
    period_start: datetime
    period_end: datetime
    anchor: datetime
    monthly_microusd: int

    @classmethod
    def opened(cls, org_id: UUID, plan: Plan, *, anchor: datetime, at: datetime) -> Self:
        """Return the subscription in the period in which `at` lies, with that plan's credits of the month."""
        start, end = period_of(anchor, at)
        return cls(org_id, plan.name, start, end, anchor, plan.credits_a_month_microusd)

    def at(self, moment: datetime, plan: Plan) -> Self:
        """Return the subscription in the period in which `moment` lies: itself, until its own is over."""
        if moment < self.period_end:
            return self
        return self.opened(self.org_id, plan, anchor=self.anchor, at=moment)

    def source_id(self, plan: Plan) -> str:
        """Return the cause of a plan's credits in this period: they are granted once."""
        return f"plan:{plan.name}:{self.period_start.date().isoformat()}"


@dataclass(frozen=True, slots=True)
class Obstacle:
    """Something of which an org holds more than the plan it wants allows."""

    resource: Resource
    limit: int
    used: int

    @property
    def lift(self) -> str:
        return LIFTED_BY[self.resource]


@dataclass(frozen=True, slots=True)
class PlanChange:
    """What moving from one plan to another means at one moment of the period.

    `credit_microusd` is what was paid for the unused part of the old plan, `charge_microusd` what the rest of the new
    one costs with the credits that stay, and `included_microusd` are the credits granted for that rest.
    """

    before: Plan
    after: Plan
    at: datetime
    period_end: datetime
    credit_microusd: int
    charge_microusd: int
    included_microusd: int
    monthly_microusd: int
    retention_days: int | None
    obstacles: tuple[Obstacle, ...]

    @property
    def changes(self) -> bool:
        return self.before.name != self.after.name

    @property
    def due_microusd(self) -> int:
        """What is to be paid now; what is paid back is for a payment provider to keep."""
        return max(0, self.charge_microusd - self.credit_microusd)

    def require_free_of_obstacles(self) -> None:
        """Raise `PlanDowngradeBlocked` with everything that stands in the way."""
        if not self.obstacles:
            return
        told = "; ".join(f"{each.resource}: {each.used} held, {each.limit} allowed" for each in self.obstacles)
        raise PlanDowngradeBlocked(
            f"The plan {self.after.name} does not hold what this org has ({told}). Free these and try again.",
            param="plan",
            details={"plan": self.after.name, "obstacles": [_shown(each) for each in self.obstacles]},
        )

    def require_payable(self, *, paid: bool) -> None:
        """Raise `PlanNotOffered` or `PaymentRequired` unless it was paid or costs nothing."""
        if paid:
            return
        if self.after.price_month_microusd is None:
            raise PlanNotOffered(
                f"The plan {self.after.name} is agreed with each customer: ask the operator for it.", param="plan"
            )
        if self.due_microusd:
            raise PaymentRequired(
                f"Moving from {self.before.name} to {self.after.name} now costs {show_usd(self.due_microusd)}: "
                f"{show_usd(self.charge_microusd)} until {self.period_end.date().isoformat()}, "
                f"less {show_usd(self.credit_microusd)}. There is no way to pay yet: ask the operator.",
                param="plan",
                details={
                    "plan": self.after.name,
                    "due_microusd": self.due_microusd,
                    "charge_microusd": self.charge_microusd,
                    "credit_microusd": self.credit_microusd,
                    "lift": "Ask the operator",
                },
            )


def change(
    subscription: Subscription, now: datetime, *, limits: Limits, wanted: Plan, held: Sequence[QuotaStatus]
) -> PlanChange:
    """Return what moving to the wanted plan means now, in the subscription's running period."""
    before, after = limits.plan, Limits(wanted, limits.overrides)
    given = subscription.monthly_microusd
    share = _Share.left(subscription, now)
    changes = before.name != wanted.name
    stays = max(given, wanted.credits_a_month_microusd)
    return PlanChange(
        before=before,
        after=wanted,
        at=now,
        period_end=subscription.period_end,
        credit_microusd=share.of(_cost(before, with_credits=given)) if changes else 0,
        charge_microusd=share.of(_cost(wanted, with_credits=stays)) if changes else 0,
        included_microusd=share.of(stays - given) if changes else 0,
        monthly_microusd=stays if changes else given,
        retention_days=after.retention_days,
        obstacles=tuple(_obstacles(limits, after, held)) if changes else (),
    )


def period_of(anchor: datetime, at: datetime) -> tuple[datetime, datetime]:
    """Return the month in which `at` lies, counted from `anchor`: from Jan 31 come Feb 28 and then Mar 31, in UTC."""
    anchor, at = anchor.astimezone(UTC), at.astimezone(UTC)
    months = max(0, (at.year - anchor.year) * 12 + at.month - anchor.month)
    if months and _months_on(anchor, months) > at:
        months -= 1
    return _months_on(anchor, months), _months_on(anchor, months + 1)


def _months_on(anchor: datetime, months: int) -> datetime:
    years, month = divmod(anchor.month - 1 + months, 12)
    year = anchor.year + years
    return anchor.replace(year=year, month=month + 1, day=min(anchor.day, monthrange(year, month + 1)[1]))


@dataclass(frozen=True, slots=True)
class _Share:
    """The part of a period that is left, in microseconds."""

    left_us: int
    period_us: int

    @classmethod
    def left(cls, subscription: Subscription, now: datetime) -> Self:
        period = subscription.period_end - subscription.period_start
        left = min(max(subscription.period_end - now, timedelta()), period)
        return cls(left // _MICROSECOND, period // _MICROSECOND)

    def of(self, microusd: int) -> int:
        """Return this part of a month's amount, rounded half to even at the micro-dollar."""
        return price(self.left_us, microusd=microusd, per=self.period_us)


def _cost(plan: Plan, *, with_credits: int) -> int:
    """Return a month's price with another amount of credits than the plan's own; nothing where it is agreed apart."""
    if plan.price_month_microusd is None:
        return 0
    return plan.price_month_microusd - plan.credits_a_month_microusd + with_credits


def _obstacles(before: Limits, after: Limits, held: Sequence[QuotaStatus]) -> list[Obstacle]:
    """Only what the change lowers stands in its way: who held too much before is not kept from a larger plan."""
    found = []
    for each in held:
        old, new = before.quota(each.resource), after.quota(each.resource)
        if new is not None and each.used > new and (old is None or new < old):
            found.append(Obstacle(each.resource, limit=new, used=each.used))
    return found


def _shown(obstacle: Obstacle) -> Mapping[str, Any]:
    return {
        "resource": obstacle.resource,
        "limit": obstacle.limit,
        "used": obstacle.used,
        "lift": obstacle.lift,
    }
