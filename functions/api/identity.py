"""HTTP API of tenants and their keys, and the health page."""

from typing import Annotated

from fastapi import Depends

from shared.billing import service as billing
from shared.identity import service
from shared.identity.model import INCLUDED_CREDITS_MICROUSD
from shared.identity.schemas import ApiKeyOut, CreateApiKey, CreateOrg, Health, MeOut, NewOrgOut, OrgOut
from shared.kernel import cache, db, ids
from shared.kernel.caller import Caller
from shared.kernel.fields import KeyId, OrgId, Page
from shared.kernel.http import lambda_handler, once, require
from shared.kernel.idempotency import Once
from shared.kernel.pagination import Slice, cut, slice_of
from shared.kernel.routing import Router

router = Router(prefix="/v1", tags=["identity"])


@router.get("/health")
def health() -> Health:
    with db.anonymous() as tx:
        tx.execute("SELECT 1")
    up = cache.is_up()
    return Health(status="ok" if up else "degraded", redis="ok" if up else "down")


@router.post("/orgs", status_code=201)
def create_org(
    body: CreateOrg,
    caller: Annotated[Caller, Depends(require("orgs:write"))],
    once: Annotated[Once, Depends(once)],
) -> NewOrgOut:
    def create() -> NewOrgOut:
        org_id = ids.new()
        with db.acting_for(tx, org_id):
            org, key, secret = service.create_org(
                tx,
                caller,
                org_id=org_id,
                name=body.name,
                slug=body.slug,
                plan=body.plan,
                metadata=body.metadata,
            )
            billing.grant(
                tx,
                Caller.system(org_id, request_id=caller.request_id),
                amount_microusd=INCLUDED_CREDITS_MICROUSD[body.plan],
                source_id=f"plan:{body.plan}",
                reason=f"included in the {body.plan} plan",
            )
        return NewOrgOut(org=OrgOut.of(org), api_key=ApiKeyOut.of(key, secret))

    with db.tenant(caller) as tx:
        return once(tx, create, secret={"api_key": {"secret"}})


@router.get("/orgs/{org_id}")
def get_org(org_id: OrgId, caller: Annotated[Caller, Depends(require("orgs:read"))]) -> OrgOut:
    with db.tenant(caller) as tx:
        return OrgOut.of(service.get_org(tx, org_id))


@router.get("/me")
def get_me(caller: Annotated[Caller, Depends(require("orgs:read"))]) -> MeOut:
    return MeOut.of(caller)


@router.post("/api-keys", status_code=201)
def create_api_key(
    body: CreateApiKey,
    caller: Annotated[Caller, Depends(require("keys:write"))],
    once: Annotated[Once, Depends(once)],
) -> ApiKeyOut:
    with db.tenant(caller) as tx:
        return once(tx, lambda: ApiKeyOut.of(*service.create_key(tx, caller, **dict(body))), secret={"secret"})


@router.get("/api-keys")
def list_api_keys(
    asked: Annotated[Slice, slice_of("key")], caller: Annotated[Caller, Depends(require("keys:read"))]
) -> Page[ApiKeyOut]:
    with db.tenant(caller) as tx:
        keys, more = cut(service.list_keys(tx, asked), asked)
    return Page(
        data=[ApiKeyOut.of(key) for key in keys],
        has_more=more,
        next_cursor=ids.show("key", keys[-1].id) if more else None,
    )


@router.delete("/api-keys/{key_id}")
def revoke_api_key(key_id: KeyId, caller: Annotated[Caller, Depends(require("keys:write"))]) -> ApiKeyOut:
    with db.tenant(caller) as tx:
        return ApiKeyOut.of(service.revoke_key(tx, caller, key_id=key_id))


handler = lambda_handler(router)
