"""The plans' limits, as data: quotas (how much at once) and rates (how fast). Prices and credits are billing's."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from shared.kernel.rates import Rate, RateKind

__all__ = ["PLANS", "Plan", "Rate", "RateKind", "Resource", "actor_rate", "org_rate"]


class Resource(StrEnum):
    """What quotas count. `storage_bytes` counts the text of memories."""

    CONCURRENT_RUNS = "concurrent_runs"
    SANDBOXES = "sandboxes"
    MEMBERS = "members"
    MEMORIES = "memories"
    STORAGE_BYTES = "storage_bytes"
    WEBHOOK_ENDPOINTS = "webhook_endpoints"


@dataclass(frozen=True, slots=True)
class Plan:
    """Limits of one plan. `org` rates are shared by all callers of the org, `actor` rates are each caller's own."""

    name: str
    # Granted once, when a person's or the operator's new org comes with them.
    included_credits_microusd: int
    quotas: Mapping[Resource, int]
    org: Mapping[RateKind, Rate]
    actor: Mapping[RateKind, Rate]


def org_rate(per_minute: int) -> Rate:
    """Return an org's bucket: ten seconds' worth of the rate in one burst, and never less than 30."""
    return Rate(per_minute, max(30, per_minute // 6))


def actor_rate(org: Rate) -> Rate:
    """Return the bucket of each of the org's callers, who may use up half of its rate alone, and 20 at once."""
    return Rate(max(1, org.per_minute // 2), max(20, org.burst // 2))


def _plan(
    name: str, *, quotas: tuple[int, ...], per_minute: tuple[int, int, int], included_credits_microusd: int = 0
) -> Plan:
    org = {kind: org_rate(rate) for kind, rate in zip(RateKind, per_minute, strict=True)}
    actor = {kind: actor_rate(rate) for kind, rate in org.items()}
    return Plan(
        name,
        included_credits_microusd,
        MappingProxyType(dict(zip(Resource, quotas, strict=True))),
        MappingProxyType(org),
        MappingProxyType(actor),
    )


_GIB = 1024**3

PLANS: Mapping[str, Plan] = MappingProxyType(
    {
        plan.name: plan
        for plan in (
            # quotas: runs, sandboxes, members, memories, storage, webhook endpoints; rates: read, create, model
            _plan(
                "free",
                quotas=(5, 5, 1, 1_000, _GIB // 10, 2),
                per_minute=(600, 120, 60),
                included_credits_microusd=5_000_000,
            ),
            _plan("pro", quotas=(20, 20, 5, 100_000, 10 * _GIB, 10), per_minute=(3_000, 600, 600)),
            _plan("team", quotas=(50, 50, 20, 1_000_000, 100 * _GIB, 50), per_minute=(12_000, 2_400, 2_400)),
            _plan(
                "enterprise",
                quotas=(500, 500, 10_000, 100_000_000, 10_000 * _GIB, 500),
                per_minute=(60_000, 12_000, 12_000),
            ),
            _plan("operator", quotas=(50, 50, 100, 1_000_000, 100 * _GIB, 50), per_minute=(12_000, 2_400, 2_400)),
        )
    }
)
