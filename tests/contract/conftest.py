"""The API over real HTTP: `serve(*routers)` is its base URL, with an authorizer that knows one key."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from uuid import uuid4

import pytest
from fastapi import APIRouter
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from shared.kernel import http
from shared.kernel.caller import Caller
from tests.http_server import listening

API_KEY = "ry_test_contract"


@dataclass(frozen=True, slots=True)
class _Gateway:
    """Adds to each request what API Gateway and the authorizer would."""

    app: ASGIApp
    caller: Caller

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        known = Request(scope).headers.get("authorization") == f"Bearer {API_KEY}"
        context: dict[str, object] = {"requestId": str(uuid4())}
        if known:
            context["authorizer"] = {"lambda": self.caller.to_context()}
        scope["aws.event"] = {"requestContext": context}
        await self.app(scope, receive, send)


@pytest.fixture
def serve(org: Caller) -> Iterator[Callable[..., str]]:
    with ExitStack() as servers:
        yield lambda *routers: servers.enter_context(listening(_Gateway(_asgi(routers), org)))


def _asgi(routers: tuple[APIRouter, ...]) -> ASGIApp:
    return http.asgi(*routers)
