"""A quota is how much of a resource an org may hold at once; each thing that holds some is counted once."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any, Protocol
from uuid import UUID

from shared.kernel.db import Tx
from shared.kernel.errors import InvalidRequest, PlanLimitReached, QuotaExceeded
from shared.kernel.rates import Rate, RateKind
from shared.quotas.plans import OFFERED, PLANS, Allowance, Plan, Resource, actor_rate, org_rate

# What bigint, and a JSON reader's double, hold without loss.
MOST = 2**53
# Retention that isn't named stays; no number of days is negative.
KEEP = -1
_NOUNS: Mapping[Resource, str] = {
    Resource.CONCURRENT_RUNS: "runs at once",
    Resource.SANDBOXES: "sandboxes at once",
    Resource.MEMBERS: "members besides viewers",
    Resource.MEMORIES: "memories",
    Resource.STORAGE_BYTES: "bytes of memories",
    Resource.WEBHOOK_ENDPOINTS: "webhook endpoints",
}
_ALLOWED: Mapping[Allowance, str] = {Allowance.MEMORIES: "new memories a month"}
# Who may, moves to another plan over the API.
_OR_A_LARGER_PLAN = "move to a larger plan, or ask the operator for a larger quota"
LIFTED_BY: Mapping[Resource, str] = {
    Resource.CONCURRENT_RUNS: "Wait for one to end, cancel one",
    Resource.SANDBOXES: "End one",
    Resource.MEMBERS: "Remove one or make one a viewer",
    Resource.MEMORIES: "Delete some",
    Resource.STORAGE_BYTES: "Delete some memories",
    Resource.WEBHOOK_ENDPOINTS: "Delete one",
}


class UnknownPlan(InvalidRequest):
    """There is no plan of this name."""

    code = "unknown_plan"


@dataclass(frozen=True, slots=True)
class QuotaStatus:
    """How much of one resource an org may hold (None: no limit) and holds. A lowered `limit` may be below `used`."""

    resource: Resource
    limit: int | None
    used: int


@dataclass(frozen=True, slots=True)
class AllowanceStatus:
    """How much of an allowance an org may use in this month (None: no limit) and has used."""

    allowance: Allowance
    limit: int | None
    used: int


@dataclass(frozen=True, slots=True)
class Overrides:
    """What an org is allowed apart from its plan, as kept in `orgs.resource_quota`."""

    quotas: Mapping[Resource, int] = field(default_factory=dict)
    # Requests per minute of the whole org.
    rates: Mapping[RateKind, int] = field(default_factory=dict)
    monthly: Mapping[Allowance, int] = field(default_factory=dict)
    retention_days: int | None = None

    @classmethod
    def read(cls, stored: Mapping[str, Any]) -> "Overrides":
        """Return what is stored, without entries that name nothing there is."""
        quotas, rates, monthly = (stored.get(part) or {} for part in ("quotas", "rates", "monthly"))
        return cls(
            {resource: int(quotas[resource]) for resource in Resource if resource in quotas},
            {kind: int(rates[kind]) for kind in RateKind if kind in rates},
            {allowance: int(monthly[allowance]) for allowance in Allowance if allowance in monthly},
            stored.get("retention_days"),
        )

    def to_json(self) -> dict[str, Any]:
        """Return what to store: quotas and rates, and of the rest what there is."""
        stored: dict[str, Any] = {"quotas": dict(self.quotas), "rates": dict(self.rates)}
        if self.monthly:
            stored["monthly"] = dict(self.monthly)
        if self.retention_days is not None:
            stored["retention_days"] = self.retention_days
        return stored


@dataclass(frozen=True, slots=True)
class Limits:
    """All that bounds one org: its plan, and what it is allowed apart from that."""

    plan: Plan
    overrides: Overrides

    @classmethod
    def of(cls, plan: str, stored: Mapping[str, Any]) -> "Limits":
        return cls(plan_named(plan), Overrides.read(stored))

    def quota(self, resource: Resource) -> int | None:
        """Return how much the org may hold at once; None is without limit."""
        return self.overrides.quotas.get(resource, self.plan.quotas[resource])

    def allowance(self, allowance: Allowance) -> int | None:
        """Return how much the org may use in a month; None is without limit."""
        return self.overrides.monthly.get(allowance, self.plan.monthly[allowance])

    @property
    def retention_days(self) -> int | None:
        """How long ended runs and sandboxes are kept; None is for good."""
        own = self.overrides.retention_days
        return self.plan.retention_days if own is None else own

    def org_rate(self, kind: RateKind) -> Rate:
        own = self.overrides.rates.get(kind)
        return self.plan.org[kind] if own is None else org_rate(own)

    def actor_rate(self, kind: RateKind) -> Rate:
        return actor_rate(self.org_rate(kind))


@dataclass(frozen=True, slots=True)
class Look:
    """Which of an area's things are asked for: those after `after` in the order of ids, or those `among` these."""

    limit: int
    after: UUID | None = None
    among: list[UUID] | None = None


class Holdings(Protocol):
    """An area's answer to what exists: the ids of things that hold a quota now, and how much, in order of the ids."""

    def __call__(self, tx: Tx, look: Look) -> list[tuple[UUID, int]]: ...


def plan_named(name: str) -> Plan:
    """Return the plan; raise `UnknownPlan`."""
    try:
        return PLANS[name]
    except KeyError:
        raise UnknownPlan(
            f"There is no plan {name}; choose one of {', '.join(plan.name for plan in OFFERED)}.", param="plan"
        ) from None


def next_month(day: date) -> date:
    """Return the first day of the month after this day's."""
    return (day.replace(day=1) + timedelta(days=31)).replace(day=1)


def exceeded(resource: Resource, *, plan: str, limit: int, used: int, wanted: int) -> QuotaExceeded:
    """Return the refusal that says which limit it is, what is used and how to lift it."""
    more = "" if wanted == 1 else f", and this needs {wanted} more"
    lift = f"{LIFTED_BY[resource]}, {_OR_A_LARGER_PLAN}"
    return QuotaExceeded(
        f"{resource}: this org may have {limit} {_NOUNS[resource]} and has {used}{more}. {lift}.",
        param=resource,
        details={"resource": resource, "limit": limit, "used": used, "plan": plan, "lift": lift},
    )


def spent(allowance: Allowance, *, plan: str, limit: int, used: int, wanted: int, until: date) -> PlanLimitReached:
    """Return the refusal that says which allowance it is, what of it is used, and when there is more."""
    more = "" if wanted == 1 else f", and this needs {wanted} more"
    lift = f"Wait until {until.isoformat()} (UTC), {_OR_A_LARGER_PLAN}"
    return PlanLimitReached(
        f"{allowance}: this org may have {limit} {_ALLOWED[allowance]} and had {used}{more}. {lift}.",
        param=allowance,
        details={
            "resource": f"monthly_{allowance}",
            "limit": limit,
            "used": used,
            "plan": plan,
            "resets_at": f"{until.isoformat()}T00:00:00Z",
            "lift": lift,
        },
    )
