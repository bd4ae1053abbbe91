"""The ASGI app of the gateway: finds the route and the caller, and turns whatever goes wrong into the envelope."""

import asyncio
import gc
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from starlette.types import Receive, Scope, Send

from shared.inference import providers
from shared.inference.config import ProviderKind
from shared.inference.edge import callers, chat, embeddings, models, responses
from shared.inference.edge.callers import Authenticator
from shared.inference.edge.exchange import Exchange
from shared.inference.edge.gateways import Gateway
from shared.inference.edge.headers import Headers
from shared.inference.edge.reading import ClientGone
from shared.kernel import clock, envelope, secrets
from shared.kernel.errors import MethodNotAllowed, RouteNotFound, RunyardError
from shared.kernel.idempotency import Replay
from shared.kernel.rates import RateKind
from shared.kernel.telemetry import logger

_REPLAYED: Headers = [(b"idempotency-replayed", b"true")]
_ONE_MODEL = "/v1/models/"


@dataclass(frozen=True, slots=True)
class _Route:
    path: str
    method: str
    scope: str
    kind: RateKind
    answer: Callable[[Exchange], Awaitable[None]]


_ROUTES = {
    route.path: route
    for route in (
        _Route("/v1/chat/completions", "POST", "inference:write", RateKind.MODEL, chat.create),
        _Route("/v1/responses", "POST", "inference:write", RateKind.MODEL, responses.create),
        _Route("/v1/embeddings", "POST", "inference:write", RateKind.MODEL, embeddings.create),
        _Route("/v1/models", "GET", "inference:read", RateKind.READ, models.list_all),
        # One model; its name may have slashes.
        _Route(_ONE_MODEL, "GET", "inference:read", RateKind.READ, models.get_one),
    )
}


def create(gateway: Gateway) -> "App":
    """Return the app; it does nothing before its first request."""
    return App(gateway)


@dataclass(slots=True)
class App:
    """No exception gets beyond it, and every answer has its request's id."""

    gateway: Gateway
    authenticator: Authenticator = field(default_factory=Authenticator)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _live(receive, send)
        elif scope["type"] == "http":
            await self._exchange(Exchange(self.gateway, scope, receive, send))

    async def _exchange(self, exchange: Exchange) -> None:
        try:
            await self._answer(exchange)
        except ClientGone:
            return
        except Exception as error:  # noqa: BLE001 - the edge: whatever happened, the caller gets the envelope
            await _refuse(exchange, error)
        await exchange.close()
        if not exchange.trace.request_counted:
            _log(exchange)

    async def _answer(self, exchange: Exchange) -> None:
        scope = exchange.scope
        if "aws.event" in scope:
            route = _find(scope)
            exchange.caller = callers.from_api_gateway(scope, request_id=exchange.request_id, headers=exchange.headers)
        else:
            callers.through_the_door(exchange.headers)
            route = _find(scope)
            exchange.caller = await callers.from_header(
                self.authenticator, scope, request_id=exchange.request_id, headers=exchange.headers
            )
        exchange.kind = route.kind
        if route.kind is RateKind.READ:
            await exchange.admit()
        exchange.caller.require(route.scope)
        await route.answer(exchange)


def _find(scope: Scope) -> _Route:
    path = scope["path"]
    route = _ROUTES.get(path)
    if route is None and path.startswith(_ONE_MODEL):
        route = _ROUTES[_ONE_MODEL]
    if route is None or path == _ONE_MODEL:
        raise RouteNotFound(f"Not Found: {scope['method']} {path}")
    if scope["method"] != route.method:
        raise MethodNotAllowed(f"Method Not Allowed: {scope['method']} {path}")
    return route


async def _refuse(exchange: Exchange, error: Exception) -> None:
    """Answer with what went wrong, or with the first answer of an Idempotency-Key; a rate limit comes before both."""
    try:
        await exchange.admit()
    except RunyardError as limited:
        error = limited
    if exchange.status:
        # An answer has begun, and all that could be said in it was said.
        envelope.shown_as(error, request_id=exchange.request_id)
        return
    if isinstance(error, Replay):
        await exchange.answer(error.body, error.status, _REPLAYED)
        return
    shown = envelope.shown_as(error, request_id=exchange.request_id)
    status = 405 if isinstance(shown, MethodNotAllowed) else envelope.STATUS_OF_KIND[shown.kind]
    extra: Headers = []
    if shown.retry_after_s is not None:
        extra.append((b"retry-after", b"%d" % shown.retry_after_s))
    await exchange.answer(envelope.show(shown, request_id=exchange.request_id), status, extra)


def _log(exchange: Exchange) -> None:
    # Of what became a call the gateway's own line tells.
    logger.info(
        "answered",
        extra={
            "request_id": exchange.request_id,
            "method": exchange.scope["method"],
            "route": exchange.scope["path"] if exchange.scope["path"] in _ROUTES else "unknown",
            "status": exchange.status,
            "latency_ms": clock.monotonic_ms() - exchange.began_ms,
        },
    )


async def _live(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            await asyncio.to_thread(_warm_up)
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


def _warm_up() -> None:
    """Load what the first call would wait for, seconds on a small machine, and keep it out of every collection."""
    providers.of(ProviderKind.OPENAI)
    secrets.prepare()
    gc.collect()
    gc.freeze()
