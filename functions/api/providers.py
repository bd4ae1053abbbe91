"""HTTP API of the model providers that an org set up, their keys, and how models are doing."""

from typing import Annotated

from fastapi import Depends

from shared.identity.model import OPERATOR_ORG_ID
from shared.inference import accounts, checking
from shared.inference.accounts_schemas import (
    CreateProvider,
    HealthOut,
    ModelHealthOut,
    ProviderCheckOut,
    ProviderOut,
    RotateProvider,
    UpdateProvider,
)
from shared.inference.configuring import changing
from shared.kernel import db, ids
from shared.kernel.caller import Caller
from shared.kernel.fields import Page, ProviderId
from shared.kernel.http import lambda_handler, once, require
from shared.kernel.idempotency import Once
from shared.kernel.pagination import Slice, cut, slice_of
from shared.kernel.routing import Router

router = Router(prefix="/v1/inference", tags=["gateway"])
Reader = Annotated[Caller, Depends(require("inference:read"))]
Admin = Annotated[Caller, Depends(require("inference:admin"))]


@router.post("/providers", status_code=201)
def create_provider(body: CreateProvider, caller: Admin, once: Annotated[Once, Depends(once)]) -> ProviderOut:
    given = body.model_dump() | {"models": tuple(body.models), "parameters": tuple(body.parameters)}
    with db.tenant(caller) as tx:
        once.reserve(tx)
        made = accounts.begin_account(tx, caller, **given)
    try:
        with changing(caller) as tx:
            if body.api_key is not None:
                made = accounts.store_key(tx, caller, provider_id=made.id, api_key=body.api_key, enabled=body.enabled)
            answer = ProviderOut.of(made)
            once.record(tx, answer)
    except Exception:
        with changing(caller) as tx:
            accounts.abandon_account(tx, caller, provider_id=made.id)
            once.release(tx)
        raise
    return answer


@router.get("/providers")
def list_providers(asked: Annotated[Slice, slice_of("prv")], caller: Reader) -> Page[ProviderOut]:
    with db.tenant(caller) as tx:
        found, more = cut(accounts.list_accounts(tx, asked), asked)
    cursor = ids.show("prv", found[-1].id) if more else None
    return Page(data=[ProviderOut.of(each) for each in found], has_more=more, next_cursor=cursor)


@router.get("/providers/{provider_id}")
def get_provider(provider_id: ProviderId, caller: Reader) -> ProviderOut:
    with db.tenant(caller) as tx:
        return ProviderOut.of(accounts.get_account(tx, provider_id))


@router.patch("/providers/{provider_id}")
def update_provider(provider_id: ProviderId, body: UpdateProvider, caller: Admin) -> ProviderOut:
    with changing(caller) as tx:
        found = accounts.update_account(
            tx,
            caller,
            provider_id=provider_id,
            models=None if body.models is None else tuple(body.models),
            parameters=None if body.parameters is None else tuple(body.parameters),
            enabled=body.enabled,
        )
        return ProviderOut.of(found)


@router.delete("/providers/{provider_id}", status_code=204)
def delete_provider(provider_id: ProviderId, caller: Admin) -> None:
    """Delete a provider, and its key for good."""
    with changing(caller) as tx:
        accounts.delete_account(tx, caller, provider_id=provider_id)


@router.post("/providers/{provider_id}/rotate")
def rotate_provider(
    provider_id: ProviderId, body: RotateProvider, caller: Admin, once: Annotated[Once, Depends(once)]
) -> ProviderOut:
    """Replace a provider's key; the old one is used for five minutes more at most."""
    with changing(caller) as tx:
        return once(
            tx,
            lambda: ProviderOut.of(accounts.store_key(tx, caller, provider_id=provider_id, api_key=body.api_key)),
        )


@router.post("/providers/{provider_id}/check")
async def check_provider(provider_id: ProviderId, caller: Admin) -> ProviderCheckOut:
    """Ask a provider for its models, with the key that is stored for it. It costs nothing."""
    with db.tenant(caller) as tx:
        account = checking.account_to_check(tx, provider_id)
    found = await checking.check(account, own=caller.org_id != OPERATOR_ORG_ID)
    return ProviderCheckOut(
        ok=found.error is None,
        error=None if found.error is None else found.error.code,
        message=None if found.error is None else found.error.message,
        models=list(found.models),
    )


@router.get("/health")
async def get_inference_health(caller: Reader) -> HealthOut:
    """Tell how models have lately done: those of the org's routes and providers, and the platform's."""
    found = await checking.health_of_models(caller)
    return HealthOut(data=[ModelHealthOut.of(each.model, each.provider, each.health) for each in found])


handler = lambda_handler(router)
