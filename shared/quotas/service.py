"""Use cases of quotas and rates: allocate, release, tell what is used, set an org's own limits."""

from collections.abc import Mapping
from datetime import date
from typing import Any
from uuid import UUID

from shared.audit import service as audit
from shared.kernel import clock, ids, rates
from shared.kernel.caller import Caller
from shared.kernel.db import Tx
from shared.kernel.errors import NotFound
from shared.kernel.rates import Rate, RateKind, Share
from shared.kernel.telemetry import logger
from shared.quotas import store
from shared.quotas.model import (
    KEEP,
    AllowanceStatus,
    Limits,
    Overrides,
    QuotaStatus,
    exceeded,
    next_month,
    plan_named,
    spent,
)
from shared.quotas.plans import PLANS, Allowance, Resource
from shared.quotas.reconciling import reconcile

# The door to how what is counted is made to agree with what exists.
__all__ = [
    "allocate",
    "check",
    "check_allowance",
    "every_org",
    "everything",
    "limits_and_status",
    "lock_org",
    "rates_of",
    "reconcile",
    "release",
    "set_limits",
    "set_plan",
    "spend_allowance",
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
        raise exceeded(resource, plan=attempt.plan, limit=attempt.most, used=used, wanted=amount)


def check(tx: Tx, org_id: UUID, resource: Resource, *, amount: int = 1) -> None:
    """Raise `QuotaExceeded` where there is no room just now. Nothing is counted: `allocate` may still refuse."""
    limits, statuses = limits_and_status(tx, org_id)
    found = next(each for each in statuses if each.resource is resource)
    if found.limit is not None and found.used + amount > found.limit:
        raise exceeded(resource, plan=limits.plan.name, limit=found.limit, used=found.used, wanted=amount)


def spend_allowance(tx: Tx, org_id: UUID, allowance: Allowance, amount: int = 1) -> None:
    """Use up this much of what the plan allows in this month, in UTC; raise `PlanLimitReached`, or `NotFound`.

    It is spent as often as it is called: the caller does so in the transaction that makes what is counted. Others of
    this org wait until `tx` ends.
    """
    month = _month()
    spending = store.spend(tx, org_id, allowance, month=month, amount=amount)
    if spending is None:
        raise NotFound.of("org", ids.show("org", org_id))
    if not spending.fitted:
        used = store.spent(tx, org_id, month=month).get(allowance, 0)
        raise spent(
            allowance, plan=spending.plan, limit=spending.most, used=used, wanted=amount, until=next_month(month)
        )


def check_allowance(tx: Tx, org_id: UUID, allowance: Allowance, amount: int = 1) -> None:
    """Raise `PlanLimitReached` where the month has not as much left. Nothing is counted."""
    limits = Limits.of(*_plan_and_overrides(tx, org_id))
    found = next(each for each in _allowances(tx, org_id, limits) if each.allowance is allowance)
    if found.limit is not None and found.used + amount > found.limit:
        until = next_month(_month())
        plan = limits.plan.name
        raise spent(allowance, plan=plan, limit=found.limit, used=found.used, wanted=amount, until=until)


def release(tx: Tx, org_id: UUID, resource: Resource, *, holder: str) -> bool:
    """Give back what `holder` holds; return whether it held any. Released twice, it is given back once."""
    return store.release(tx, org_id, resource, holder=holder)


def status(tx: Tx, org_id: UUID) -> list[QuotaStatus]:
    """Return each resource's limit and use, in the order of `Resource`; raise `NotFound`."""
    return _statuses(_existing(tx, org_id))


def everything(tx: Tx, org_id: UUID) -> tuple[Limits, list[QuotaStatus], list[AllowanceStatus]]:
    """Return the org's limits, what it holds, and what it used in this month; raise `NotFound`."""
    limits, statuses = limits_and_status(tx, org_id)
    return limits, statuses, _allowances(tx, org_id, limits)


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
    quotas: Mapping[Resource, int | None] | None = None,
    rates: Mapping[RateKind, int | None] | None = None,
    monthly: Mapping[Allowance, int | None] | None = None,
    retention_days: int | None = KEEP,
) -> None:
    """Set what an org is allowed apart from its plan; None takes the plan's own again.

    What isn't named stays, and so does a retention that isn't given. `tx` acts for the org; the caller has checked
    `quotas:write`, which only the operator holds. Raises `NotFound`.
    """
    store.lock_org(tx, org_id)
    plan, stored = _plan_and_overrides(tx, org_id)
    before = Overrides.read(stored)
    own = Overrides(
        _merged(before.quotas, quotas or {}),
        _merged(before.rates, rates or {}),
        _merged(before.monthly, monthly or {}),
        before.retention_days if retention_days == KEEP else retention_days,
    )
    store.set_limits(tx, org_id, resource_quota=own.to_json())
    audit.record(
        tx,
        caller,
        org_id=org_id,
        action="quota.update",
        resource_type="org",
        resource_id=ids.show("org", org_id),
        old={"plan": plan, **before.to_json()},
        new={"plan": plan, **own.to_json()},
    )


def lock_org(tx: Tx, org_id: UUID) -> Limits:
    """Return the org's limits, which nobody else changes until `tx` ends; raise `NotFound`."""
    store.lock_org(tx, org_id)
    return Limits.of(*_plan_and_overrides(tx, org_id))


def set_plan(tx: Tx, caller: Caller, org_id: UUID, plan: str) -> None:
    """Move the org to a plan, whose limits hold from the commit on; raise `UnknownPlan`.

    The use case is `billing.service.change_plan`, which locks the org, bills and audits.
    """
    store.set_plan(tx, org_id, plan_named(plan).name)
    logger.info("plan set", extra={"org_id": str(org_id), "plan": plan, "actor_id": caller.actor_id})


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


def _plan_and_overrides(tx: Tx, org_id: UUID) -> tuple[str, dict[str, Any]]:
    found = _existing(tx, org_id)
    return found.plan, found.resource_quota


def _allowances(tx: Tx, org_id: UUID, limits: Limits) -> list[AllowanceStatus]:
    used = store.spent(tx, org_id, month=_month())
    return [
        AllowanceStatus(allowance, limit=limits.allowance(allowance), used=used.get(allowance, 0))
        for allowance in Allowance
    ]


def _month() -> date:
    return clock.now().date().replace(day=1)


def _statuses(found: store.Stored) -> list[QuotaStatus]:
    limits = Limits.of(found.plan, found.resource_quota)
    return [
        QuotaStatus(resource, limit=limits.quota(resource), used=found.used.get(resource, 0)) for resource in Resource
    ]


def _merged[K](before: Mapping[K, int], changes: Mapping[K, int | None]) -> dict[K, int]:
    return {key: value for key, value in {**before, **changes}.items() if value is not None}
