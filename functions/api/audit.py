"""HTTP API of the audit trail: list."""

from typing import Annotated

from fastapi import Depends, Query

from shared.audit import service
from shared.audit.schemas import AuditEventOut
from shared.kernel import db, ids
from shared.kernel.caller import Caller
from shared.kernel.fields import Page
from shared.kernel.http import lambda_handler, require
from shared.kernel.pagination import Slice, cut, slice_of
from shared.kernel.routing import Router

router = Router(prefix="/v1/audit-events", tags=["audit"])


@router.get("")
def list_audit_events(
    asked: Annotated[Slice, slice_of("audit")],
    caller: Annotated[Caller, Depends(require("audit:read"))],
    action: Annotated[str | None, Query(max_length=64, examples=["agent.create"])] = None,
    resource_id: Annotated[str | None, Query(max_length=64)] = None,
) -> Page[AuditEventOut]:
    with db.tenant(caller) as tx:
        found = service.list_events(tx, asked, action=action, resource_id=resource_id)
    events, more = cut(found, asked)
    return Page(
        data=[AuditEventOut.of(event) for event in events],
        has_more=more,
        next_cursor=ids.show("audit", events[-1].id) if more else None,
    )


handler = lambda_handler(router)
