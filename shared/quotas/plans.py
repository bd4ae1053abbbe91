"""The plans, as data in this one file: limits, features, what is included and what a month costs."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from shared.kernel.rates import Rate, RateKind

__all__ = ["OFFERED", "PLANS", "Allowance", "Feature", "Plan", "Rate", "RateKind", "Resource", "actor_rate", "org_rate"]


class Resource(StrEnum):
    """What quotas count. `storage_bytes` counts the text of memories."""

    CONCURRENT_RUNS = "concurrent_runs"
    SANDBOXES = "sandboxes"
    MEMBERS = "members"
    MEMORIES = "memories"
    STORAGE_BYTES = "storage_bytes"
    WEBHOOK_ENDPOINTS = "webhook_endpoints"


class Allowance(StrEnum):
    """What is counted up over a calendar month in UTC and never down: `memories` are those stored in it."""

    MEMORIES = "memories"


class Feature(StrEnum):
    """What a plan has beyond numbers."""

    PRIORITY = "priority"
    DEDICATED_CAPACITY = "dedicated_capacity"
    CUSTOM_INTEGRATIONS = "custom_integrations"
    SLA = "sla"
    OWN_RETENTION = "own_retention"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One plan. `org` rates are shared by all callers of the org, `actor` rates are each caller's own."""

    name: str
    # None: agreed with each customer.
    price_month_microusd: int | None
    # Granted when an org is opened, and at the start of each of its months too if `included_every_month`.
    included_credits_microusd: int
    included_every_month: bool
    # Ended runs and sandboxes are kept for so long; None: for good.
    retention_days: int | None
    features: frozenset[Feature]
    # In both, None is without limit.
    monthly: Mapping[Allowance, int | None]
    quotas: Mapping[Resource, int | None]
    org: Mapping[RateKind, Rate]
    actor: Mapping[RateKind, Rate]

    @property
    def credits_a_month_microusd(self) -> int:
        """What each month brings: nothing where credits are included but once."""
        return self.included_credits_microusd if self.included_every_month else 0


def org_rate(per_minute: int) -> Rate:
    """Return an org's bucket: ten seconds' worth of the rate in one burst, and never less than 30."""
    return Rate(per_minute, max(30, per_minute // 6))


def actor_rate(org: Rate) -> Rate:
    """Return the bucket of each of the org's callers, who may use up half of its rate alone, and 20 at once."""
    return Rate(max(1, org.per_minute // 2), max(20, org.burst // 2))


def _plan(
    name: str,
    *,
    price: int | None,
    credits_once: int = 0,
    credits_a_month: int = 0,
    retention_days: int | None,
    features: tuple[Feature, ...] = (),
    memories_a_month: int | None = None,
    quotas: tuple[int | None, ...],
    per_minute: tuple[int, int, int],
) -> Plan:
    org = {kind: org_rate(rate) for kind, rate in zip(RateKind, per_minute, strict=True)}
    return Plan(
        name=name,
        price_month_microusd=None if price is None else price * _USD,
        included_credits_microusd=(credits_once + credits_a_month) * _USD,
        included_every_month=credits_a_month > 0,
        retention_days=retention_days,
        features=frozenset(features),
        monthly=MappingProxyType({Allowance.MEMORIES: memories_a_month}),
        quotas=MappingProxyType(dict(zip(Resource, quotas, strict=True))),
        org=MappingProxyType(org),
        actor=MappingProxyType({kind: actor_rate(rate) for kind, rate in org.items()}),
    )


_GIB = 1024**3
_USD = 1_000_000
_PRO = (Feature.PRIORITY,)
_TEAM = (*_PRO, Feature.DEDICATED_CAPACITY, Feature.CUSTOM_INTEGRATIONS)

PLANS: Mapping[str, Plan] = MappingProxyType(
    {
        plan.name: plan
        for plan in (
            # prices and credits in dollars
            # quotas: runs, sandboxes, members, memories, storage, webhook endpoints; rates: read, create, model
            _plan(
                "free",
                price=0,
                credits_once=5,
                retention_days=7,
                memories_a_month=1_000,
                quotas=(5, 5, 1, 10_000, _GIB // 10, 2),
                per_minute=(600, 120, 60),
            ),
            _plan(
                "pro",
                price=29,
                credits_a_month=20,
                retention_days=30,
                features=_PRO,
                quotas=(20, 20, 5, None, 10 * _GIB, 10),
                per_minute=(3_000, 600, 600),
            ),
            _plan(
                "team",
                price=99,
                credits_a_month=60,
                retention_days=90,
                features=_TEAM,
                quotas=(50, 50, 20, None, 100 * _GIB, 50),
                per_minute=(12_000, 2_400, 2_400),
            ),
            _plan(
                "enterprise",
                price=None,
                retention_days=365,
                features=(*_TEAM, Feature.SLA, Feature.OWN_RETENTION),
                quotas=(500, 500, 10_000, None, 10_000 * _GIB, 500),
                per_minute=(60_000, 12_000, 12_000),
            ),
            _plan(
                "operator",
                price=None,
                retention_days=None,
                quotas=(50, 50, 100, None, 100 * _GIB, 50),
                per_minute=(12_000, 2_400, 2_400),
            ),
        )
    }
)
# The platform's own is nobody else's.
OFFERED: tuple[Plan, ...] = tuple(plan for plan in PLANS.values() if plan.name != "operator")
