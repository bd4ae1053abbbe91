"""The door's addresses: API, gateway and WebSocket forwarded, console and API docs served from files."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import BaseRoute, Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from local.front.destinations import Gateway, HttpApi
from local.front.errors import envelope
from local.front.forwarding import Forwarder
from local.front.sockets import SocketForwarder
from local.front.upstream import Upstream
from local.passwords import read_passwords
from local.settings import Home

_FORWARDED = ("/v1/", "/mcp", "/.well-known/")
# The same paths that CloudFront sends to the gateway and, after them, to the API in AWS.
GATEWAY_ROUTES = ("/v1/chat/completions", "/v1/responses", "/v1/embeddings", "/v1/models", "/v1/models/{rest:path}")
_FORWARDED_PATHS = ("/v1/{rest:path}", "/mcp", "/mcp/{rest:path}", "/.well-known/{rest:path}")
_METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
# Everything from here and nothing from elsewhere; the docs' viewer writes styles and pictures into its page.
_PAGE_HEADERS = {
    "content-security-policy": "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}


def create_app(home: Home, files: Path) -> Starlette:
    """Return the front door of this home; `files` is the repository, from which pages and the OpenAPI document come."""
    upstream = Upstream(home.outputs_file, home.ports.emulator)
    edge_secret = read_passwords(home).edge
    api = Forwarder(HttpApi(upstream), home.public_url, edge_secret)
    gateway = Forwarder(Gateway(upstream, home.ports.gateway), home.public_url, edge_secret)

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        await api.close()
        await gateway.close()

    async def not_found(request: Request, _: Exception) -> Response:
        request_id = request.headers.get("x-request-id")
        return envelope("route_not_found", public_url=home.public_url, request_id=request_id)

    return Starlette(
        routes=_routes(api, gateway, SocketForwarder(upstream, home.public_url), files),
        middleware=[Middleware(_PageHeaders)],
        exception_handlers={404: not_found},
        lifespan=lifespan,
    )


def _routes(api: Forwarder, gateway: Forwarder, sockets: SocketForwarder, files: Path) -> list[BaseRoute]:
    console = files / "console"
    return [
        *(Route(path, gateway, methods=_METHODS) for path in GATEWAY_ROUTES),
        *(Route(path, api, methods=_METHODS) for path in _FORWARDED_PATHS),
        WebSocketRoute("/ws", sockets.serve),
        Route("/healthz", lambda _: JSONResponse({"status": "ok"})),
        Route("/openapi.json", lambda _: _file(files / "docs" / "openapi.json")),
        Route("/docs", lambda _: _file(console / "docs.html")),
        Route("/account", lambda _: _file(console / "account.html")),
        Route("/errors", lambda _: _file(console / "errors.html")),
        Mount("/docs/viewer", StaticFiles(directory=files / "node_modules" / "swagger-ui-dist", check_dir=False)),
        Mount("/", StaticFiles(directory=_built(console), html=True)),
    ]


def _built(console: Path) -> Path:
    """Return the built console, or its sources while there is nothing to build."""
    return console / "dist" if (console / "dist").is_dir() else console


def _file(file: Path) -> FileResponse:
    if not file.is_file():
        raise HTTPException(404)
    return FileResponse(file)


class _PageHeaders:
    """Adds the pages' security headers; the API's answers pass unchanged."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith(_FORWARDED):
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                added = [(name.encode(), value.encode()) for name, value in _PAGE_HEADERS.items()]
                message["headers"] = [*message["headers"], *added]
            await send(message)

        await self._app(scope, receive, send_with_headers)
