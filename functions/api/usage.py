"""HTTP API of usage: totals of a time range, and the events they are made of."""

from datetime import UTC, date, datetime, timedelta
from typing import Annotated

from fastapi import Depends, Query
from pydantic import AwareDatetime, Field

from shared.kernel import clock, db, ids
from shared.kernel.caller import Caller
from shared.kernel.fields import Page
from shared.kernel.http import lambda_handler, require
from shared.kernel.pagination import Slice, cut, slice_of
from shared.kernel.routing import Router
from shared.usage import days, service, today
from shared.usage.days_model import UTC as UTC_ZONE
from shared.usage.days_model import dimensions_of
from shared.usage.days_schemas import UsageDaysOut
from shared.usage.model import UsageKind
from shared.usage.schemas import UsageEventOut, UsageSummaryOut
from shared.usage.today_schemas import UsageTodayOut

DEFAULT_RANGE = timedelta(days=30)
# Before the last, which makes thirty.
LAST_DAYS = timedelta(days=29)
# Far enough from the ends of the calendar for any arithmetic.
Moment = Annotated[AwareDatetime, Field(ge=datetime(2000, 1, 1, tzinfo=UTC), lt=datetime(3000, 1, 1, tzinfo=UTC))]
Day = Annotated[date, Field(ge=date(2000, 1, 1), lt=date(3000, 1, 1))]

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


@router.get("/today")
def usage_today(caller: Annotated[Caller, Depends(require("usage:read"))]) -> UsageTodayOut:
    figures = today.kept(caller)
    if figures is None:
        with db.tenant(caller) as tx:
            figures = today.counted(tx)
        today.keep(caller, figures)
    return UsageTodayOut.of(figures)


@router.get("/daily")
def usage_by_day(
    caller: Annotated[Caller, Depends(require("usage:read"))],
    since: Annotated[Day | None, Query(description="The first day. Default: 29 days before `until`.")] = None,
    until: Annotated[Day | None, Query(description="The last day, included. Default: today.")] = None,
    time_zone: Annotated[
        str, Query(description="Where a day begins: a name of IANA's.", examples=[UTC_ZONE])
    ] = UTC_ZONE,
    group_by: Annotated[str | None, Query(description="Any of agent, person, key, model, by commas.")] = None,
    kind: Annotated[UsageKind | None, Query(description="Only this kind.")] = None,
) -> UsageDaysOut:
    groups = dimensions_of(group_by)
    with db.reading(caller) as tx:
        until = until or days.today(tx, time_zone)
        since = since or until - LAST_DAYS
        found = days.daily(tx, since, until, time_zone, groups, kind)
        as_of = days.watermark(tx).now
    return UsageDaysOut.of(found, since=since, until=until, time_zone=time_zone, as_of=as_of)


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
