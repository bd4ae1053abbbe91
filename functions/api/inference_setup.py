"""HTTP API of the model gateway's set-up: routes, settings; and the calls that it recorded."""

from typing import Annotated

from fastapi import Depends, Query

from shared.inference import org_settings, recorded, routes
from shared.inference.calls import Outcome
from shared.inference.configuring import changing
from shared.inference.recorded import Filter
from shared.inference.routes_schemas import RouteOut, WriteRoute
from shared.inference.setup_schemas import CallOut, CallWithContentOut, InferenceSettings, InferenceSettingsOut
from shared.kernel import db, ids
from shared.kernel.caller import Caller
from shared.kernel.fields import CallId, Moment, Page, RouteId, RunId
from shared.kernel.http import lambda_handler, once, require
from shared.kernel.idempotency import Once
from shared.kernel.pagination import Slice, cut, slice_of
from shared.kernel.routing import Router

router = Router(prefix="/v1/inference", tags=["gateway"])
Reader = Annotated[Caller, Depends(require("inference:read"))]
Admin = Annotated[Caller, Depends(require("inference:admin"))]
UsageReader = Annotated[Caller, Depends(require("usage:read"))]


@router.post("/routes", status_code=201)
def create_route(body: WriteRoute, caller: Admin, once: Annotated[Once, Depends(once)]) -> RouteOut:
    with changing(caller) as tx:
        return once(tx, lambda: RouteOut.of(routes.create_route(tx, caller, body.to_model())))


@router.get("/routes")
def list_routes(asked: Annotated[Slice, slice_of("rte")], caller: Reader) -> Page[RouteOut]:
    with db.tenant(caller) as tx:
        found, more = cut(routes.list_routes(tx, asked), asked)
    cursor = ids.show("rte", found[-1].id) if more else None
    return Page(data=[RouteOut.of(each) for each in found], has_more=more, next_cursor=cursor)


@router.get("/routes/{route_id}")
def get_route(route_id: RouteId, caller: Reader) -> RouteOut:
    with db.tenant(caller) as tx:
        return RouteOut.of(routes.get_route(tx, route_id))


@router.put("/routes/{route_id}")
def replace_route(route_id: RouteId, body: WriteRoute, caller: Admin) -> RouteOut:
    """Replace a route as a whole; workers follow it within five seconds."""
    with changing(caller) as tx:
        return RouteOut.of(routes.replace_route(tx, caller, route_id=route_id, route=body.to_model()))


@router.delete("/routes/{route_id}", status_code=204)
def delete_route(route_id: RouteId, caller: Admin) -> None:
    with changing(caller) as tx:
        routes.delete_route(tx, caller, route_id=route_id)


@router.get("/settings")
def get_inference_settings(caller: Reader) -> InferenceSettingsOut:
    with db.tenant(caller) as tx:
        return InferenceSettingsOut.of(org_settings.get_settings(tx))


@router.put("/settings")
def set_inference_settings(body: InferenceSettings, caller: Admin) -> InferenceSettingsOut:
    with changing(caller) as tx:
        return InferenceSettingsOut.of(org_settings.set_settings(tx, caller, body.to_model()))


@router.get("/calls")
def list_calls(
    asked: Annotated[Slice, slice_of("call")],
    caller: UsageReader,
    model: Annotated[str | None, Query(max_length=200)] = None,
    outcome: Outcome | None = None,
    run_id: RunId | None = None,
    since: Moment | None = None,
    until: Moment | None = None,
) -> Page[CallOut]:
    wanted = Filter(
        model=model,
        outcome=outcome,
        run_id=None if run_id is None else ids.show("run", run_id),
        since=since,
        until=until,
    )
    with db.tenant(caller) as tx:
        found, more = cut(recorded.list_calls(tx, asked, wanted), asked)
    cursor = ids.show("call", found[-1].id) if more else None
    return Page(data=[CallOut.of(each) for each in found], has_more=more, next_cursor=cursor)


@router.get("/calls/{call_id}")
def get_call(call_id: CallId, caller: UsageReader) -> CallWithContentOut:
    with db.tenant(caller) as tx:
        return CallWithContentOut.of(recorded.get_call(tx, call_id))


handler = lambda_handler(router)
