"""A quota is how much of a resource an org may hold at once; each thing that holds some is counted once."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol
from uuid import UUID

from shared.kernel.db import Tx
from shared.kernel.errors import InvalidRequest, QuotaExceeded
from shared.kernel.rates import Rate, RateKind
from shared.quotas.plans import PLANS, Plan, Resource, actor_rate, org_rate

# What bigint, and a JSON reader's double, hold without loss.
MOST = 2**53
_NOUNS: Mapping[Resource, str] = {
    Resource.CONCURRENT_RUNS: "runs at once",
    Resource.SANDBOXES: "sandboxes at once",
    Resource.MEMBERS: "members besides viewers",
    Resource.MEMORIES: "memories",
    Resource.STORAGE_BYTES: "bytes of memories",
    Resource.WEBHOOK_ENDPOINTS: "webhook endpoints",
}
_LIFTED_BY: Mapping[Resource, str] = {
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
    """How much of one resource an org may hold and holds. `limit` may be below `used` once it was lowered."""

    resource: Resource
    limit: int
    used: int


@dataclass(frozen=True, slots=True)
class Overrides:
    """What an org is allowed apart from its plan, as kept in `orgs.resource_quota`."""

    quotas: Mapping[Resource, int] = field(default_factory=dict)
    # Requests per minute of the whole org.
    rates: Mapping[RateKind, int] = field(default_factory=dict)

    @classmethod
    def read(cls, stored: Mapping[str, Any]) -> "Overrides":
        """Return what is stored, without entries that name nothing there is."""
        quotas, rates = stored.get("quotas") or {}, stored.get("rates") or {}
        return cls(
            {resource: int(quotas[resource]) for resource in Resource if resource in quotas},
            {kind: int(rates[kind]) for kind in RateKind if kind in rates},
        )

    def to_json(self) -> dict[str, Any]:
        return {"quotas": dict(self.quotas), "rates": dict(self.rates)}


@dataclass(frozen=True, slots=True)
class Limits:
    """All that bounds one org: its plan, and what it is allowed apart from that."""

    plan: Plan
    overrides: Overrides

    @classmethod
    def of(cls, plan: str, stored: Mapping[str, Any]) -> "Limits":
        return cls(plan_named(plan), Overrides.read(stored))

    def quota(self, resource: Resource) -> int:
        return self.overrides.quotas.get(resource, self.plan.quotas[resource])

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
        raise UnknownPlan(f"There is no plan {name}; choose one of {', '.join(PLANS)}.", param="plan") from None


def exceeded(resource: Resource, *, limit: int, used: int, wanted: int) -> QuotaExceeded:
    """Return the refusal that says which limit it is, what is used and how to lift it."""
    more = "" if wanted == 1 else f", and this needs {wanted} more"
    return QuotaExceeded(
        f"{resource}: this org may have {limit} {_NOUNS[resource]} and has {used}{more}. "
        f"{_LIFTED_BY[resource]}, or ask the operator for a larger plan or quota.",
        param=resource,
    )
