"""HTTP API of orgs: create, list, read."""

from typing import Annotated

from fastapi import Depends

from shared.billing import service as billing
from shared.identity import service as identity
from shared.identity.schemas import ApiKeyOut
from shared.kernel import db, ids
from shared.kernel.caller import Caller
from shared.kernel.fields import OrgId
from shared.kernel.http import lambda_handler, once, require
from shared.kernel.idempotency import Once
from shared.kernel.routing import Router
from shared.orgs import service
from shared.orgs.schemas import CreateOrg, NewOrgOut, OrgOut

router = Router(prefix="/v1/orgs", tags=["orgs"])


@router.post("", status_code=201)
def create_org(
    body: CreateOrg,
    caller: Annotated[Caller, Depends(require("orgs:create"))],
    once: Annotated[Once, Depends(once)],
) -> NewOrgOut:
    """Create an org. A person becomes its owner; the operator gets its first key."""

    def create() -> NewOrgOut:
        org_id = ids.new()
        with db.acting_for(tx, org_id):
            org = service.create_org(tx, caller, org_id=org_id, owner=caller.person_id, **dict(body))
            if caller.person_id is not None:
                return NewOrgOut(org=OrgOut.of(org), api_key=None)
            key, secret = identity.create_first_key(tx, caller, org_id=org_id)
            billing.grant_included(tx, org_id, plan=org.plan, request_id=caller.request_id)
        return NewOrgOut(org=OrgOut.of(org), api_key=ApiKeyOut.of(key, secret))

    with db.tenant(caller) as tx:
        return once(tx, create, secret={"api_key": {"secret"}})


@router.get("/{org_id}")
def get_org(org_id: OrgId, caller: Annotated[Caller, Depends(require("orgs:read"))]) -> OrgOut:
    with db.tenant(caller) as tx:
        return OrgOut.of(service.get_org(tx, org_id))


handler = lambda_handler(router)
