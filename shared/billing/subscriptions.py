"""Use cases of subscriptions: open an org's account, change its plan, begin its next month.

Whoever changes a subscription locks the org's row first: two changes at once come one after the other, and each
counts with what the first one left.
"""

from dataclasses import replace
from uuid import UUID

from shared.audit import service as audit
from shared.billing import subscriptions_store as store
from shared.billing.credits import grant
from shared.billing.lots import LotKind
from shared.billing.plan_changes import PlanChange, Subscription, change
from shared.kernel import clock, ids
from shared.kernel.caller import Caller
from shared.kernel.db import Tx
from shared.kernel.errors import NotFound
from shared.quotas import service as quotas
from shared.quotas.model import Limits, plan_named
from shared.quotas.plans import Plan


def open_account(tx: Tx, org_id: UUID, *, plan: str, with_credits: bool = True, request_id: str = "") -> None:
    """Begin a new org's subscription, with what its plan includes; again, it changes nothing. `tx` acts for the org.

    Without credits for whoever has an org already: making further ones is no source of them.
    """
    chosen, now = plan_named(plan), clock.now()
    opened = Subscription.opened(org_id, chosen, anchor=now, at=now)
    if not store.insert(tx, opened if with_credits else replace(opened, monthly_microusd=0)) or not with_credits:
        return
    amount = chosen.included_credits_microusd
    _grant_included(tx, Caller.system(org_id, request_id=request_id), opened, chosen, amount)


def subscription(tx: Tx, org_id: UUID) -> Subscription:
    """Return the org's plan and its running period; raise `NotFound`."""
    found = store.find(tx, org_id)
    if found is None:
        raise NotFound.of("org", ids.show("org", org_id))
    return found.at(clock.now(), plan_named(found.plan))


def preview_change(tx: Tx, org_id: UUID, plan: str) -> PlanChange:
    """Return what moving to this plan would mean now, obstacles included; raise `UnknownPlan`, `NotFound`."""
    limits, held = quotas.limits_and_status(tx, org_id)
    return change(subscription(tx, org_id), clock.now(), limits=limits, wanted=plan_named(plan), held=held)


def change_plan(tx: Tx, caller: Caller, org_id: UUID, *, plan: str, paid: bool) -> PlanChange:
    """Move the org to a plan at once; to the one it has, nothing changes. `tx` acts for the org.

    `paid`: what is due was paid or is waived, by a payment provider's word or the operator's. Raises `UnknownPlan`,
    `PlanDowngradeBlocked`, `PlanNotOffered` and `PaymentRequired`, having changed nothing.
    """
    wanted = plan_named(plan)
    limits = quotas.lock_org(tx, org_id)
    current = _renewed(tx, org_id, limits.plan)
    _, held = quotas.limits_and_status(tx, org_id)
    found = change(current, clock.now(), limits=limits, wanted=wanted, held=held)
    if not found.changes:
        return found
    found.require_free_of_obstacles()
    found.require_payable(paid=paid)
    quotas.set_plan(tx, caller, org_id, wanted.name)
    store.save(tx, replace(current, plan=wanted.name, monthly_microusd=found.monthly_microusd))
    _grant_included(tx, replace(caller, org_id=org_id), current, wanted, found.included_microusd)
    audit.record(
        tx,
        caller,
        org_id=org_id,
        action="subscription.change",
        resource_type="org",
        resource_id=ids.show("org", org_id),
        old={"plan": limits.plan.name},
        new={
            "plan": wanted.name,
            "paid": paid,
            "due_microusd": found.due_microusd,
            "included_microusd": found.included_microusd,
        },
    )
    return found


def renew(tx: Tx, org_id: UUID) -> bool:
    """Begin the month that runs now, if the last one is over, and grant its credits; return whether it did.

    Months that were missed altogether bring nothing: their credits would have expired.
    """
    limits: Limits = quotas.lock_org(tx, org_id)
    before = store.find(tx, org_id)
    return before is not None and _renewed(tx, org_id, limits.plan).period_start != before.period_start


def orgs_with_period_over(tx: Tx) -> list[UUID]:
    """Return the orgs whose month is over; `tx` may be anonymous."""
    return store.due(tx)


def _renewed(tx: Tx, org_id: UUID, plan: Plan) -> Subscription:
    """Return the subscription in its running period, which has begun here if need be. The org is locked."""
    before = store.find(tx, org_id)
    if before is None:
        raise NotFound.of("org", ids.show("org", org_id))
    now = before.at(clock.now(), plan)
    if now.period_start == before.period_start:
        return before
    store.save(tx, now)
    system = Caller.system(org_id)
    _grant_included(tx, system, now, plan, plan.credits_a_month_microusd)
    audit.record(
        tx,
        system,
        action="subscription.renew",
        resource_type="org",
        resource_id=ids.show("org", org_id),
        old={"period_start": before.period_start.isoformat()},
        new={"plan": plan.name, "period_start": now.period_start.isoformat()},
    )
    return now


def _grant_included(tx: Tx, caller: Caller, subscription: Subscription, plan: Plan, amount: int) -> None:
    """Grant a plan's credits: until the period's end where they come each month, else once and for good."""
    if amount <= 0:
        return
    monthly = plan.included_every_month
    grant(
        tx,
        caller,
        amount_microusd=amount,
        source_id=subscription.source_id(plan) if monthly else f"plan:{plan.name}",
        reason=f"included in the {plan.name} plan",
        kind=LotKind.PLAN,
        expires_at=subscription.period_end if monthly else None,
    )
