"""HTTP API of orgs: create, list, read, change, settings."""

from typing import Annotated

from fastapi import Depends

from shared.billing import service as billing
from shared.identity import service as identity
from shared.identity.schemas import ApiKeyOut
from shared.kernel import db, ids
from shared.kernel.caller import Caller
from shared.kernel.fields import Page
from shared.kernel.http import lambda_handler, once, require, require_in_org
from shared.kernel.idempotency import Once
from shared.kernel.pagination import Slice, cut, slice_of
from shared.kernel.routing import Router
from shared.orgs import service
from shared.orgs.schemas import CreateOrg, NewOrgOut, OrgOfCallerOut, OrgOut, Settings, SettingsOut, UpdateOrg

router = Router(prefix="/v1/orgs", tags=["orgs"])
Reader = Annotated[Caller, Depends(require_in_org("orgs:read"))]
Writer = Annotated[Caller, Depends(require_in_org("orgs:write"))]


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
                billing.open_account(tx, org_id, plan=org.plan, with_credits=False, request_id=caller.request_id)
                return NewOrgOut(org=OrgOut.of(org), api_key=None)
            key, secret = identity.create_first_key(tx, caller, org_id=org_id)
            billing.open_account(tx, org_id, plan=org.plan, request_id=caller.request_id)
        return NewOrgOut(org=OrgOut.of(org), api_key=ApiKeyOut.of(key, secret))

    with db.tenant(caller) as tx:
        return once(tx, create, secret={"api_key": {"secret"}})


@router.get("")
def list_orgs(
    asked: Annotated[Slice, slice_of("org")], caller: Annotated[Caller, Depends(require("orgs:read"))]
) -> Page[OrgOfCallerOut]:
    """List the orgs that the person calling belongs to, or the one org of the key."""
    with db.tenant(caller) as tx:
        found, more = cut(service.orgs_of_caller(tx, caller, asked), asked)
    cursor = ids.show("org", found[-1][0].id) if more else None
    return Page(data=[OrgOfCallerOut.of(*each) for each in found], has_more=more, next_cursor=cursor)


@router.get("/{org_id}")
def get_org(caller: Reader) -> OrgOut:
    with db.tenant(caller) as tx:
        return OrgOut.of(service.get_org(tx, caller.org_id))


@router.patch("/{org_id}")
def update_org(body: UpdateOrg, caller: Writer) -> OrgOut:
    with db.tenant(caller) as tx:
        return OrgOut.of(service.update_org(tx, caller, name=body.name, slug=body.slug, metadata=body.metadata))


@router.get("/{org_id}/settings")
def get_org_settings(caller: Reader) -> SettingsOut:
    with db.tenant(caller) as tx:
        return SettingsOut.of(service.get_org(tx, caller.org_id).settings)


@router.put("/{org_id}/settings")
def set_org_settings(body: Settings, caller: Writer) -> SettingsOut:
    """Replace the org's settings."""
    with db.tenant(caller) as tx:
        return SettingsOut.of(service.set_settings(tx, caller, body.to_model()))


handler = lambda_handler(router)
