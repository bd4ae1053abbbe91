"""HTTP API of what an org pays for models by agreement; the operator sets it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated
from uuid import UUID

from fastapi import Depends

from shared.billing import service
from shared.billing.org_price_schemas import OrgPriceOut, SetOrgPrice
from shared.kernel import db, ids
from shared.kernel.caller import Caller
from shared.kernel.db import Tx
from shared.kernel.errors import NotFound
from shared.kernel.fields import OrgId, Page, PriceId
from shared.kernel.http import lambda_handler, once, require
from shared.kernel.idempotency import Once
from shared.kernel.pagination import Slice, cut, slice_of
from shared.kernel.routing import Router
from shared.orgs import service as orgs

router = Router(prefix="/v1/orgs/{org_id}/prices", tags=["prices"])
Setter = Annotated[Caller, Depends(require("prices:write"))]


@router.get("")
def list_org_prices(
    org_id: OrgId,
    asked: Annotated[Slice, slice_of("price")],
    caller: Annotated[Caller, Depends(require("billing:read"))],
) -> Page[OrgPriceOut]:
    """List what was agreed with the org, what is over and what is to come included. The operator sees any org's."""
    if org_id != caller.org_id and "prices:write" not in caller.scopes:
        raise NotFound.of("org", ids.show("org", org_id))
    with db.tenant(caller) as tx, _acting_for(tx, org_id):
        found, more = cut(service.list_org_prices(tx, asked), asked)
    cursor = ids.show("price", found[-1].id) if more else None
    return Page(data=[OrgPriceOut.of(each) for each in found], has_more=more, next_cursor=cursor)


@router.post("", status_code=201)
def set_org_price(
    org_id: OrgId, body: SetOrgPrice, caller: Setter, once: Annotated[Once, Depends(once)]
) -> OrgPriceOut:
    """Set what any org pays for a model from a moment on. For the platform's operator."""

    def create() -> OrgPriceOut:
        with _acting_for(tx, org_id):
            made = service.set_org_price(
                tx, caller, org_id, model=body.model, effective_from=body.effective_from, price=body.to_price()
            )
            return OrgPriceOut.of(made)

    with db.tenant(caller) as tx:
        return once(tx, create)


@router.delete("/{price_id}", status_code=204)
def delete_org_price(org_id: OrgId, price_id: PriceId, caller: Setter) -> None:
    """Take back a price that is still to come. For the platform's operator."""
    with db.tenant(caller) as tx, _acting_for(tx, org_id):
        service.delete_org_price(tx, caller, org_id, price_id=price_id)


@contextmanager
def _acting_for(tx: Tx, org_id: UUID) -> Iterator[None]:
    """Act for the org; raise `NotFound` when there is none."""
    with db.acting_for(tx, org_id):
        orgs.get_org(tx, org_id)
        yield


handler = lambda_handler(router)
