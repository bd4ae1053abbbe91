"""HTTP API of API keys and of the service accounts that own some: create, rotate, change, revoke."""

from typing import Annotated

from fastapi import Depends, Query

from shared.identity import service
from shared.identity.schemas import (
    ApiKeyOut,
    CreateApiKey,
    CreateServiceAccount,
    RotateApiKey,
    ServiceAccountOut,
    UpdateServiceAccount,
)
from shared.kernel import db, ids
from shared.kernel.caller import Caller
from shared.kernel.fields import KeyId, Page, ServiceAccountId
from shared.kernel.http import lambda_handler, once, require
from shared.kernel.idempotency import Once
from shared.kernel.pagination import Slice, cut, slice_of
from shared.kernel.routing import Router

router = Router(prefix="/v1")
KEYS, ACCOUNTS = "api-keys", "service-accounts"
KeyReader = Annotated[Caller, Depends(require("keys:read"))]
KeyWriter = Annotated[Caller, Depends(require("keys:write"))]
AccountReader = Annotated[Caller, Depends(require("service-accounts:read"))]
AccountWriter = Annotated[Caller, Depends(require("service-accounts:write"))]
OnceOnly = Annotated[Once, Depends(once)]


@router.post("/api-keys", status_code=201, tags=[KEYS])
def create_api_key(body: CreateApiKey, caller: KeyWriter, once: OnceOnly) -> ApiKeyOut:
    with db.tenant(caller) as tx:
        return once(tx, lambda: ApiKeyOut.of(*service.create_key(tx, caller, **dict(body))), secret={"secret"})


@router.get("/api-keys", tags=[KEYS])
def list_api_keys(
    asked: Annotated[Slice, slice_of("key")],
    caller: KeyReader,
    service_account_id: Annotated[ServiceAccountId | None, Query()] = None,
) -> Page[ApiKeyOut]:
    with db.tenant(caller) as tx:
        keys, more = cut(service.list_keys(tx, asked, service_account_id=service_account_id), asked)
    return Page(
        data=[ApiKeyOut.of(key) for key in keys],
        has_more=more,
        next_cursor=ids.show("key", keys[-1].id) if more else None,
    )


@router.get("/api-keys/{key_id}", tags=[KEYS])
def get_api_key(key_id: KeyId, caller: KeyReader) -> ApiKeyOut:
    with db.tenant(caller) as tx:
        return ApiKeyOut.of(service.get_key(tx, key_id))


@router.post("/api-keys/{key_id}/rotate", status_code=201, tags=[KEYS])
def rotate_api_key(key_id: KeyId, body: RotateApiKey, caller: KeyWriter, once: OnceOnly) -> ApiKeyOut:
    def rotate() -> ApiKeyOut:
        return ApiKeyOut.of(*service.rotate_key(tx, caller, key_id=key_id, overlap_s=body.overlap_s))

    with db.tenant(caller) as tx:
        return once(tx, rotate, secret={"secret"})


@router.delete("/api-keys/{key_id}", tags=[KEYS])
def revoke_api_key(key_id: KeyId, caller: KeyWriter) -> ApiKeyOut:
    with db.tenant(caller) as tx:
        return ApiKeyOut.of(service.revoke_key(tx, caller, key_id=key_id))


@router.post("/service-accounts", status_code=201, tags=[ACCOUNTS])
def create_service_account(body: CreateServiceAccount, caller: AccountWriter, once: OnceOnly) -> ServiceAccountOut:
    with db.tenant(caller) as tx:
        return once(tx, lambda: ServiceAccountOut.of(service.create_account(tx, caller, **dict(body))))


@router.get("/service-accounts", tags=[ACCOUNTS])
def list_service_accounts(asked: Annotated[Slice, slice_of("svc")], caller: AccountReader) -> Page[ServiceAccountOut]:
    with db.tenant(caller) as tx:
        found, more = cut(service.list_accounts(tx, asked), asked)
    cursor = ids.show("svc", found[-1].id) if more else None
    return Page(data=[ServiceAccountOut.of(account) for account in found], has_more=more, next_cursor=cursor)


@router.get("/service-accounts/{service_account_id}", tags=[ACCOUNTS])
def get_service_account(service_account_id: ServiceAccountId, caller: AccountReader) -> ServiceAccountOut:
    with db.tenant(caller) as tx:
        return ServiceAccountOut.of(service.get_account(tx, service_account_id))


@router.patch("/service-accounts/{service_account_id}", tags=[ACCOUNTS])
def update_service_account(
    service_account_id: ServiceAccountId, body: UpdateServiceAccount, caller: AccountWriter
) -> ServiceAccountOut:
    with db.tenant(caller) as tx:
        return ServiceAccountOut.of(service.update_account(tx, caller, account_id=service_account_id, **dict(body)))


@router.delete("/service-accounts/{service_account_id}", tags=[ACCOUNTS])
def disable_service_account(service_account_id: ServiceAccountId, caller: AccountWriter) -> ServiceAccountOut:
    """Disable it for good: its keys are refused from then on."""
    with db.tenant(caller) as tx:
        return ServiceAccountOut.of(service.disable_account(tx, caller, account_id=service_account_id))


handler = lambda_handler(router)
