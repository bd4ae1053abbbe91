"""HTTP API of quotas: what an org may hold and holds, how fast it may call; the operator sets both."""

from typing import Annotated

from fastapi import Depends

from shared.kernel import db, ids
from shared.kernel.caller import Caller
from shared.kernel.errors import NotFound
from shared.kernel.fields import OrgId
from shared.kernel.http import lambda_handler, require
from shared.kernel.routing import Router
from shared.quotas import service
from shared.quotas.schemas import QuotaOut, SetQuota

router = Router(prefix="/v1/orgs", tags=["quotas"])


@router.get("/{org_id}/quota")
def get_quota(org_id: OrgId, caller: Annotated[Caller, Depends(require("orgs:read"))]) -> QuotaOut:
    if org_id != caller.org_id:
        raise NotFound.of("org", ids.show("org", org_id))
    with db.tenant(caller) as tx:
        return QuotaOut.of(org_id, *service.everything(tx, org_id))


@router.put("/{org_id}/quota")
def set_quota(org_id: OrgId, body: SetQuota, caller: Annotated[Caller, Depends(require("quotas:write"))]) -> QuotaOut:
    """Set what any org is allowed apart from its plan. For the platform's operator."""
    with db.tenant(caller) as tx, db.acting_for(tx, org_id):
        service.set_limits(
            tx,
            caller,
            org_id,
            quotas=body.quotas,
            rates=body.rates,
            monthly=body.monthly,
            retention_days=body.retention,
        )
        return QuotaOut.of(org_id, *service.everything(tx, org_id))


handler = lambda_handler(router)
