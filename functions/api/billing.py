"""HTTP API of credits: the balance, the ledger behind it, and the operator's grants."""

from typing import Annotated

from fastapi import Depends

from shared.billing import service
from shared.billing.schemas import BalanceOut, EntryOut, GrantCredits
from shared.kernel import db, ids
from shared.kernel.caller import Caller
from shared.kernel.fields import Page
from shared.kernel.http import lambda_handler, once, require
from shared.kernel.idempotency import Once
from shared.kernel.pagination import Slice, cut, slice_of
from shared.kernel.routing import Router
from shared.orgs import service as orgs

router = Router(prefix="/v1/credits", tags=["credits"])


@router.get("")
def get_balance(caller: Annotated[Caller, Depends(require("credits:read"))]) -> BalanceOut:
    with db.tenant(caller) as tx:
        return BalanceOut.of(service.balance(tx))


@router.get("/entries")
def list_credit_entries(
    asked: Annotated[Slice, slice_of("entry")], caller: Annotated[Caller, Depends(require("credits:read"))]
) -> Page[EntryOut]:
    with db.tenant(caller) as tx:
        entries, more = cut(service.list_entries(tx, asked), asked)
    return Page(
        data=[EntryOut.of(entry) for entry in entries],
        has_more=more,
        next_cursor=ids.show("entry", entries[-1].id) if more else None,
    )


@router.post("/grants", status_code=201)
def grant_credits(
    body: GrantCredits,
    caller: Annotated[Caller, Depends(require("credits:grant"))],
    once: Annotated[Once, Depends(once)],
) -> EntryOut:
    receiver = service.receiver(caller, body.org_id)

    def grant() -> EntryOut:
        with db.acting_for(tx, receiver.org_id):
            orgs.get_org(tx, receiver.org_id)
            source_id = body.source_id or f"grant:{ids.new()}"
            entry = service.grant(
                tx, receiver, amount_microusd=body.amount_microusd, source_id=source_id, reason=body.reason
            )
            return EntryOut.of(entry)

    with db.tenant(caller) as tx:
        return once(tx, grant)


handler = lambda_handler(router)
