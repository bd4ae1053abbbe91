"""HTTP API of usage: totals of a time range, and the events they are made of."""

from datetime import UTC, datetime, timedelta
from typing import Annotated

from fastapi import Depends, Query
from pydantic import AwareDatetime, Field

from shared.kernel import clock, db, ids
from shared.kernel.caller import Caller
from shared.kernel.fields import Page
from shared.kernel.http import lambda_handler, require
from shared.kernel.pagination import Slice, cut, slice_of
from shared.kernel.routing import Router
from shared.usage import service
from shared.usage.model import UsageKind
from shared.usage.schemas import UsageEventOut, UsageSummaryOut

DEFAULT_RANGE = timedelta(days=30)
# Far enough from the ends of the calendar for any arithmetic.
Moment = Annotated[AwareDatetime, Field(ge=datetime(2000, 1, 1, tzinfo=UTC), lt=datetime(3000, 1, 1, tzinfo=UTC))]

router = Router(prefix="/v1/usage", tags=["usage"])


@router.get("")
def summarize_usage(
    caller: Annotated[Caller, Depends(require("usage:read"))],
    since: Annotated[Moment | None, Query(description="Default: 30 days before `until`.")] = None,
    until: Annotated[Moment | None, Query(description="Not included. Default: now.")] = None,
) -> UsageSummaryOut:
    until = until or clock.now()
    since = since or until - DEFAULT_RANGE
    with db.tenant(caller) as tx:
        totals = service.summary(tx, since=since, until=until)
    return UsageSummaryOut.of(totals, since=since, until=until)


@router.get("/events")
def list_usage_events(
    asked: Annotated[Slice, slice_of("usage")],
    caller: Annotated[Caller, Depends(require("usage:read"))],
    kind: Annotated[UsageKind | None, Query(description="Only this kind.")] = None,
) -> Page[UsageEventOut]:
    with db.tenant(caller) as tx:
        events, more = cut(service.list_events(tx, asked, kind=kind), asked)
    return Page(
        data=[UsageEventOut.of(event) for event in events],
        has_more=more,
        next_cursor=ids.show("usage", events[-1].id) if more else None,
    )


handler = lambda_handler(router)
