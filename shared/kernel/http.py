"""The HTTP edge: app factory, error envelope, request id, authentication dependency, Lambda handler."""

import hashlib
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, cast
from uuid import uuid4

from fastapi import APIRouter, Depends, FastAPI, Request, Security
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.security import HTTPBearer
from mangum import Mangum
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shared.kernel import clock, counting, envelope, ids, limiting
from shared.kernel.caller import Caller
from shared.kernel.envelope import DATABASE_ERRORS, ErrorEnvelope
from shared.kernel.envelope import STATUS_OF_KIND as STATUS_OF_KIND  # part of what the edge is
from shared.kernel.errors import InvalidRequest, MethodNotAllowed, NotFound, RouteNotFound, RunyardError
from shared.kernel.fields import OrgId
from shared.kernel.idempotency import Once, Replay
from shared.kernel.telemetry import Handler, logger, traced

_MAX_KEY_LENGTH = 255
_ERROR_OF_STATUS = {404: RouteNotFound, 405: MethodNotAllowed}
_bearer = HTTPBearer(
    scheme_name="apiKey",
    auto_error=False,
    description="An API key or an access token: `Authorization: Bearer ry_live_…`, `Authorization: Bearer eyJ…`",
)
ERROR_RESPONSES: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorEnvelope, "description": text}
    for status, text in {
        400: "The request is malformed.",
        401: "No valid API key.",
        403: "The key lacks a scope.",
        404: "Not there, or not yours.",
        409: "In conflict with the present state, or with an earlier use of the Idempotency-Key.",
        429: "Too many requests: wait for as many seconds as Retry-After says.",
        500: "A fault of ours.",
    }.items()
}


def require(scope: str, *, spends: bool = False) -> Callable[..., Awaitable[Caller]]:
    """Return a dependency that yields the `Caller`, and raises unless it holds `scope`, e.g. `agents:read`.

    It counts the request against the caller's rates. What `spends` credits is refused while that is impossible.
    """

    async def caller(request: Request, _: Annotated[object, Security(_bearer, scopes=[scope])]) -> Caller:
        found = Caller.from_context(_authorizer(request), request_id=request_id(request), ip=client_ip(request))
        request.state.caller = found
        counted = limiting.count(found, limiting.kind_of(request.method, scope))
        request.state.rate_limit = counted.headers
        counted.admit(spends=spends)
        found.require(scope)
        return found

    return caller


def require_in_org(scope: str) -> Callable[..., Awaitable[Caller]]:
    """Return `require`'s dependency for paths with an `org_id`: any but the caller's own org does not exist."""

    async def caller(org_id: OrgId, found: Annotated[Caller, Depends(require(scope))]) -> Caller:
        if org_id != found.org_id:
            raise NotFound.of("org", ids.show("org", org_id))
        return found

    return caller


async def raw_body(request: Request) -> bytes:
    """Return the body as it came: a dependency of routes that take files."""
    return await request.body()


async def once(request: Request) -> Once:
    """Read the request's Idempotency-Key; a dependency of every POST."""
    key = request.headers.get("idempotency-key")
    if key is not None and not (0 < len(key) <= _MAX_KEY_LENGTH and key.isprintable()):
        raise InvalidRequest(
            f"Idempotency-Key must be 1 to {_MAX_KEY_LENGTH} printable characters.", param="Idempotency-Key"
        )
    # The actor is part of it: nobody is given an answer that was another's.
    actor = _authorizer(request).get("actor_id", "")
    digest = hashlib.sha256(f"{actor} {request.method} {request.url.path}?{request.url.query}\n".encode())
    digest.update(await request.body())
    status = getattr(request.scope.get("route"), "status_code", None) or 200
    return Once(key=key, fingerprint=digest.digest(), status=status)


def request_id(request: Request) -> str:
    """Return API Gateway's id of this request: the one in its logs, in ours and in every error."""
    known = _request_context(request).get("requestId") or getattr(request.state, "request_id", None)
    if known is None:
        known = request.state.request_id = f"local-{uuid4()}"
    return str(known)


def client_ip(request: Request) -> str:
    """Return the client's address as API Gateway saw it, or as the edge in front of it tells us.

    Anybody may send X-Forwarded-For to API Gateway itself; its last entry but one is the edge's word only beside the
    edge's secret.
    """
    seen = str(_request_context(request).get("http", {}).get("sourceIp", ""))
    if not envelope.from_edge(request.headers.get("x-runyard-edge", "")):
        return seen
    return envelope.first_address(request.headers.get("x-forwarded-for", "").split(","), seen=seen)


def _authorizer(request: Request) -> dict[str, Any]:
    found: dict[str, Any] = _request_context(request).get("authorizer", {}).get("lambda") or {}
    return found


def _request_context(request: Request) -> dict[str, Any]:
    event: dict[str, Any] = request.scope.get("aws.event") or {}
    context: dict[str, Any] = event.get("requestContext", {})
    return context


def create_app(*routers: APIRouter) -> FastAPI:
    """Return the ASGI app of these routers, with every error in our envelope."""
    app = FastAPI(
        title="Runyard API",
        version="1",
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    for router in routers:
        app.include_router(router, responses=ERROR_RESPONSES)
    for kind in (
        RunyardError,
        RequestValidationError,
        HTTPException,
        Replay,
        *DATABASE_ERRORS,
    ):
        app.add_exception_handler(kind, _answer_error)
    # Starlette answers with this one and then raises all the same; the edge below has no more to do with it.
    app.add_exception_handler(Exception, _answer_error)
    return app


def asgi(*routers: APIRouter) -> "Edge":
    """Return the whole edge as an ASGI app: what Mangum, tests and measurements call."""
    return Edge(create_app(*routers))


def lambda_handler(*routers: APIRouter) -> Handler:
    """Return the Lambda handler of these routers, for API Gateway's HTTP API payload 2.0."""
    return handler_of(asgi(*routers))


def handler_of(app: ASGIApp) -> Handler:
    """Return the Lambda handler of an ASGI app."""
    # Mangum describes apps and contexts by protocols of its own, which ours meet but for their annotations.
    adapter = Mangum(cast("Any", app), lifespan="off")
    return traced(lambda event, context: adapter(event, cast("Any", context)))


class Edge:
    """The outermost ASGI layer: request id on every answer, one log line each, no exception beyond it."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        began = clock.monotonic_ms()
        status = 0

        async def observed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                added = [(b"x-request-id", request_id(request).encode()), *getattr(request.state, "rate_limit", ())]
                message["headers"] = [*message["headers"], *added]
            await send(message)

        try:
            await self.app(scope, receive, observed)
        except Exception as error:  # noqa: BLE001 - the edge: whatever happened, the caller gets the envelope
            if status == 0:
                await (await _answer_error(request, error))(scope, receive, observed)
        counting.count(getattr(request.state, "caller", None), status)
        logger.info(
            "answered",
            extra={
                "request_id": request_id(request),
                "method": scope["method"],
                "route": getattr(scope.get("route"), "path", "unknown"),
                "status": status,
                "latency_ms": clock.monotonic_ms() - began,
            },
        )


async def _answer_error(request: Request, error: Exception) -> JSONResponse:
    """Turn any exception into the envelope. Unexpected ones are logged whole and shown as nothing but a 500."""
    match error:
        case Replay():
            return JSONResponse(error.body, error.status, {"Idempotency-Replayed": "true"})
        case RequestValidationError():
            return _envelope(request, _first_fault(error))
        case HTTPException():
            fault = _ERROR_OF_STATUS.get(error.status_code, InvalidRequest)(
                f"{error.detail}: {request.method} {request.url.path}"
            )
            return _envelope(request, fault, status=error.status_code)
        case _:
            return _envelope(request, envelope.shown_as(error, request_id=request_id(request)))


def _first_fault(error: RequestValidationError) -> RunyardError:
    fault = error.errors()[0]
    if fault["type"] == "json_invalid":
        return InvalidRequest(f"body: not valid JSON at character {fault['loc'][-1]}.")
    place = ".".join(str(part) for part in fault["loc"] if part not in ("body", "query", "path", "header"))
    return InvalidRequest(f"{place or 'body'}: {fault['msg'].removeprefix('Value error, ')}", param=place or None)


def _envelope(request: Request, error: RunyardError, *, status: int | None = None) -> JSONResponse:
    headers = {} if error.retry_after_s is None else {"Retry-After": str(error.retry_after_s)}
    body = envelope.show(error, request_id=request_id(request))
    return JSONResponse(body, status or STATUS_OF_KIND[error.kind], headers)
