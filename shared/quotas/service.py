"""Use cases of quotas and rates: allocate, release, tell what is used, set an org's own limits."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from shared.audit import service as audit
from shared.kernel import ids, rates
from shared.kernel.caller import Caller
from shared.kernel.db import Tx
from shared.kernel.errors import NotFound
from shared.kernel.rates import Rate, RateKind, Share
from shared.quotas import store
from shared.quotas.model import Limits, Overrides, QuotaStatus, exceeded
from shared.quotas.plans import PLANS, Resource
from shared.quotas.reconciling import reconcile

# The door to how what is counted is made to agree with what exists.
__all__ = [
    "allocate",
    "check",
    "every_org",
    "limits_and_status",
    "rates_of",
    "reconcile",
    "release",
    "set_limits",
    "status",
]


def allocate(tx: Tx, org_id: UUID, resource: Resource, *, holder: str, amount: int = 1) -> None:
    """Count `amount` of a resource as held by `holder`, e.g. `run_…`; the same holder again changes nothing.

    Other allocations of the same resource in this org wait until `tx` ends. Where one transaction allocates or
    releases several, it does so in the order of `Resource`, and before it touches credits. Raises `QuotaExceeded`.
    """
    if amount <= 0:
        return
    attempt = store.allocate(tx, org_id, resource, holder=holder, amount=amount)
    if attempt is None:
        raise NotFound.of("org", ids.show("org", org_id))
    if attempt.recorded:
        return
    if attempt.taken:
        store.give_back(tx, org_id, resource, amount=amount)
    elif not store.holds(tx, org_id, resource, holder=holder):
        used = store.used(tx, org_id, resource)
        raise exceeded(resource, limit=attempt.most, used=used, wanted=amount)


def check(tx: Tx, org_id: UUID, resource: Resource, *, amount: int = 1) -> None:
    """Raise `QuotaExceeded` where there is no room just now. Nothing is counted: `allocate` may still refuse."""
    found = next(each for each in status(tx, org_id) if each.resource is resource)
    if found.used + amount > found.limit:
        raise exceeded(resource, limit=found.limit, used=found.used, wanted=amount)


def release(tx: Tx, org_id: UUID, resource: Resource, *, holder: str) -> bool:
    """Give back what `holder` holds; return whether it held any. Released twice, it is given back once."""
    return store.release(tx, org_id, resource, holder=holder)


def status(tx: Tx, org_id: UUID) -> list[QuotaStatus]:
    """Return each resource's limit and use, in the order of `Resource`; raise `NotFound`."""
    return _statuses(_existing(tx, org_id))


def limits_and_status(tx: Tx, org_id: UUID) -> tuple[Limits, list[QuotaStatus]]:
    """Return the org's limits, and what it uses; raise `NotFound`."""
    found = _existing(tx, org_id)
    return Limits.of(found.plan, found.resource_quota), _statuses(found)


def every_org(tx: Tx) -> list[UUID]:
    """Return the ids of all tenants; `tx` may be anonymous."""
    return store.every_org(tx)


def set_limits(
    tx: Tx,
    caller: Caller,
    org_id: UUID,
    *,
    plan: str | None,
    quotas: Mapping[Resource, int | None],
    rates: Mapping[RateKind, int | None],
) -> None:
    """Set what an org may hold and how fast it may call, apart from its plan; None takes a plan's own again.

    What isn't named stays. `tx` acts for the org; the caller has checked `quotas:write`, which only the operator
    holds. Raises `NotFound`, `UnknownPlan`.
    """
    store.lock_org(tx, org_id)
    before = _existing(tx, org_id)
    limits = Limits.of(plan or before.plan, before.resource_quota)
    own = Overrides(_merged(limits.overrides.quotas, quotas), _merged(limits.overrides.rates, rates))
    store.set_limits(tx, org_id, plan=limits.plan.name, resource_quota=own.to_json())
    audit.record(
        tx,
        caller,
        org_id=org_id,
        action="quota.update",
        resource_type="org",
        resource_id=ids.show("org", org_id),
        old={"plan": before.plan, **Overrides.read(before.resource_quota).to_json()},
        new={"plan": limits.plan.name, **own.to_json()},
    )


def rates_of(plan: str, overrides: dict[str, Any], key_per_minute: int | None) -> str:
    """Return the rate limits of a caller as `Caller.rates` carries them.

    `overrides` is the org's `resource_quota`; `key_per_minute` is the key's own limit, on requests of every kind.
    A plan that no longer exists limits as the smallest does: a caller is never without limits by mistake.
    """
    limits = Limits.of(plan if plan in PLANS else "free", overrides)
    found: dict[tuple[Share, RateKind | None], Rate] = {}
    if key_per_minute is not None:
        found[Share.KEY, None] = Rate(key_per_minute, max(1, key_per_minute // 6))
    for kind in RateKind:
        found[Share.ACTOR, kind] = limits.actor_rate(kind)
        found[Share.ORG, kind] = limits.org_rate(kind)
    return rates.show(found)


def _existing(tx: Tx, org_id: UUID) -> store.Stored:
    found = store.stored(tx, org_id)
    if found is None:
        raise NotFound.of("org", ids.show("org", org_id))
    return found


def _statuses(found: store.Stored) -> list[QuotaStatus]:
    limits = Limits.of(found.plan, found.resource_quota)
    return [
        QuotaStatus(resource, limit=limits.quota(resource), used=found.used.get(resource, 0)) for resource in Resource
    ]


def _merged[K](before: Mapping[K, int], changes: Mapping[K, int | None]) -> dict[K, int]:
    return {key: value for key, value in {**before, **changes}.items() if value is not None}
