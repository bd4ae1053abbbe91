"""HTTP API of API keys: create, list, revoke."""

from typing import Annotated

from fastapi import Depends

from shared.identity import service
from shared.identity.schemas import ApiKeyOut, CreateApiKey
from shared.kernel import db, ids
from shared.kernel.caller import Caller
from shared.kernel.fields import KeyId, Page
from shared.kernel.http import lambda_handler, once, require
from shared.kernel.idempotency import Once
from shared.kernel.pagination import Slice, cut, slice_of
from shared.kernel.routing import Router

router = Router(prefix="/v1/api-keys", tags=["api-keys"])


@router.post("", status_code=201)
def create_api_key(
    body: CreateApiKey,
    caller: Annotated[Caller, Depends(require("keys:write"))],
    once: Annotated[Once, Depends(once)],
) -> ApiKeyOut:
    with db.tenant(caller) as tx:
        return once(tx, lambda: ApiKeyOut.of(*service.create_key(tx, caller, **dict(body))), secret={"secret"})


@router.get("")
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


@router.delete("/{key_id}")
def revoke_api_key(key_id: KeyId, caller: Annotated[Caller, Depends(require("keys:write"))]) -> ApiKeyOut:
    with db.tenant(caller) as tx:
        return ApiKeyOut.of(service.revoke_key(tx, caller, key_id=key_id))


handler = lambda_handler(router)
