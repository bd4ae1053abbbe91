"""HTTP API of credits: the balance, the ledger behind it, and what the operator grants, refunds and adjusts."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

from fastapi import Depends

from shared.billing import service
from shared.billing.schemas import AdjustCredits, BalanceOut, EntryOut, GrantCredits, LotOut, RefundCredits
from shared.kernel import db, ids
from shared.kernel.caller import Caller
from shared.kernel.db import Tx
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
        return BalanceOut.of(service.balance(tx), service.next_expiry(tx))


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


@router.get("/grants")
def list_credit_grants(
    asked: Annotated[Slice, slice_of("lot")], caller: Annotated[Caller, Depends(require("credits:read"))]
) -> Page[LotOut]:
    with db.tenant(caller) as tx:
        lots, more = cut(service.lots(tx, asked), asked)
    return Page(
        data=[LotOut.of(lot) for lot in lots],
        has_more=more,
        next_cursor=ids.show("lot", lots[-1].id) if more else None,
    )


@router.post("/grants", status_code=201)
def grant_credits(
    body: GrantCredits,
    caller: Annotated[Caller, Depends(require("credits:grant"))],
    once: Annotated[Once, Depends(once)],
) -> EntryOut:
    receiver = service.receiver(caller, body.org_id)

    def grant() -> EntryOut:
        with _account(tx, receiver):
            entry = service.grant(
                tx,
                receiver,
                amount_microusd=body.amount_microusd,
                source_id=body.source_id or f"grant:{ids.new()}",
                reason=body.reason,
                kind=body.kind,
                expires_at=body.expires_at,
                priority=body.priority,
            )
            return EntryOut.of(entry)

    with db.tenant(caller) as tx:
        return once(tx, grant)


@router.post("/refunds", status_code=201)
def refund_credits(
    body: RefundCredits,
    caller: Annotated[Caller, Depends(require("credits:grant"))],
    once: Annotated[Once, Depends(once)],
) -> EntryOut:
    receiver = service.receiver(caller, body.org_id)

    def refund() -> EntryOut:
        with _account(tx, receiver):
            source_id = body.source_id or f"refund:{ids.new()}"
            entry = service.refund(
                tx, receiver, amount_microusd=body.amount_microusd, source_id=source_id, reason=body.reason
            )
            return EntryOut.of(entry)

    with db.tenant(caller) as tx:
        return once(tx, refund)


@router.post("/adjustments", status_code=201)
def adjust_credits(
    body: AdjustCredits,
    caller: Annotated[Caller, Depends(require("credits:adjust"))],
    once: Annotated[Once, Depends(once)],
) -> EntryOut:
    receiver = service.receiver(caller, body.org_id)

    def adjust() -> EntryOut:
        with _account(tx, receiver):
            source_id = body.source_id or f"adjustment:{ids.new()}"
            entry = service.adjust(
                tx, receiver, amount_microusd=body.amount_microusd, source_id=source_id, reason=body.reason
            )
            return EntryOut.of(entry)

    with db.tenant(caller) as tx:
        return once(tx, adjust)


@contextmanager
def _account(tx: Tx, receiver: Caller) -> Iterator[None]:
    """Act for the receiving org; raise `NotFound` when there is none."""
    with db.acting_for(tx, receiver.org_id):
        orgs.get_org(tx, receiver.org_id)
        yield


handler = lambda_handler(router)
