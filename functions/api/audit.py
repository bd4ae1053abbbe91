"""HTTP API of the audit trail: list, get, export as JSON Lines."""

from contextlib import closing
from typing import Annotated

from fastapi import Depends, Query, Response
from pydantic import AwareDatetime

from shared.audit import service
from shared.audit.model import Filter
from shared.audit.schemas import MAX_EXPORT_LINES, AuditEventOut, export_page
from shared.kernel import db, ids
from shared.kernel.caller import Caller
from shared.kernel.fields import AuditId, Page
from shared.kernel.http import lambda_handler, require
from shared.kernel.pagination import Slice, cut, slice_of
from shared.kernel.routing import Router

router = Router(prefix="/v1/audit-events", tags=["audit"])
Reader = Annotated[Caller, Depends(require("audit:read"))]
_MAX_SEQ = 2**63 - 1
_EXPORT = f"""Up to {MAX_EXPORT_LINES:,} events in the order in which they took effect, one in each line, and a last
line of its own kind (`audit_export_end`) that says whether more follow and from which `cursor`."""


def _wanted(
    actor: Annotated[str | None, Query(max_length=64, description="Who did it.")] = None,
    action: Annotated[str | None, Query(max_length=64, examples=["agent.create"])] = None,
    resource_type: Annotated[str | None, Query(max_length=64, examples=["agent"])] = None,
    resource_id: Annotated[str | None, Query(max_length=64, description="What it was done to.")] = None,
    since: Annotated[AwareDatetime | None, Query(description="From this moment on.")] = None,
    until: Annotated[AwareDatetime | None, Query(description="Before this moment.")] = None,
) -> Filter:
    return Filter(
        actor=actor,
        action=action,
        resource_type=resource_type,
        resource_id=resource_id,
        since=since,
        until=until,
    )


@router.get("")
def list_audit_events(
    asked: Annotated[Slice, slice_of("audit")], caller: Reader, wanted: Annotated[Filter, Depends(_wanted)]
) -> Page[AuditEventOut]:
    with db.tenant(caller) as tx:
        found = service.list_events(tx, asked, **wanted)
    events, more = cut(found, asked)
    return Page(
        data=[AuditEventOut.of(event) for event in events],
        has_more=more,
        next_cursor=ids.show("audit", events[-1].id) if more else None,
    )


@router.get(
    "/export",
    response_class=Response,
    description=_EXPORT,
    responses={200: {"content": {"application/x-ndjson": {"schema": {"type": "string"}}}, "description": "A page."}},
)
def export_audit_events(
    caller: Reader,
    wanted: Annotated[Filter, Depends(_wanted)],
    cursor: Annotated[int, Query(ge=0, le=_MAX_SEQ, description="`next_cursor` of the page before.")] = 0,
) -> Response:
    with db.tenant(caller) as tx:
        with closing(service.events_after(tx, cursor, **wanted)) as events:
            page, end = export_page(events, after=cursor)
        service.record_export(tx, caller, after=cursor, lines=end.lines, **wanted)
    return Response(page, media_type="application/x-ndjson")


@router.get("/{event_id}")
def get_audit_event(event_id: AuditId, caller: Reader) -> AuditEventOut:
    with db.tenant(caller) as tx:
        return AuditEventOut.of(service.get_event(tx, event_id))


handler = lambda_handler(router)
