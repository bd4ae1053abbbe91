"""HTTP API of plans and subscriptions: what there is, what an org has, and moving it to another plan."""

from typing import Annotated

from fastapi import Depends

from shared.billing import service
from shared.billing.plan_schemas import ChangePlan, PlanChangeOut, PlanOut, SubscriptionOut
from shared.kernel import db
from shared.kernel.caller import Caller
from shared.kernel.fields import OrgId, Page
from shared.kernel.http import lambda_handler, once, require
from shared.kernel.idempotency import Once
from shared.kernel.routing import Router
from shared.orgs import service as orgs
from shared.quotas import service as quotas
from shared.quotas.plans import OFFERED

router = Router(tags=["subscriptions"])


@router.get("/v1/plans")
def list_plans() -> Page[PlanOut]:
    """List the plans, from the smallest to the largest."""
    return Page(data=[PlanOut.of(plan) for plan in OFFERED], has_more=False, next_cursor=None)


@router.get("/v1/subscription")
def get_subscription(caller: Annotated[Caller, Depends(require("billing:read"))]) -> SubscriptionOut:
    with db.tenant(caller) as tx:
        limits, _ = quotas.limits_and_status(tx, caller.org_id)
        return SubscriptionOut.of(service.subscription(tx, caller.org_id), limits)


@router.post("/v1/subscription/preview")
def preview_subscription(
    body: ChangePlan,
    caller: Annotated[Caller, Depends(require("billing:read"))],
    once: Annotated[Once, Depends(once)],
) -> PlanChangeOut:
    """Tell what moving to a plan would cost now, what it would bring and what stands in its way. Changes nothing."""
    with db.tenant(caller) as tx:
        return once(tx, lambda: PlanChangeOut.of(service.preview_change(tx, caller.org_id, body.plan)))


@router.put("/v1/subscription")
def change_subscription(
    body: ChangePlan, caller: Annotated[Caller, Depends(require("billing:admin"))]
) -> PlanChangeOut:
    """Move to another plan, whose limits count at once. What costs something now is refused until it is paid."""
    with db.tenant(caller) as tx:
        return PlanChangeOut.of(service.change_plan(tx, caller, caller.org_id, plan=body.plan, paid=False))


@router.put("/v1/orgs/{org_id}/subscription")
def set_subscription(
    org_id: OrgId, body: ChangePlan, caller: Annotated[Caller, Depends(require("quotas:write"))]
) -> PlanChangeOut:
    """Move any org to another plan without payment. For the platform's operator."""
    with db.tenant(caller) as tx, db.acting_for(tx, org_id):
        orgs.get_org(tx, org_id)
        return PlanChangeOut.of(service.change_plan(tx, caller, org_id, plan=body.plan, paid=True))


handler = lambda_handler(router)
