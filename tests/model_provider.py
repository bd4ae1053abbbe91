"""A model provider for tests: the offline model over real HTTP, which notes every request and fails when told to.

Its API key is where the product looks for it: in Secrets Manager, reached by boto3 over real HTTP.
"""

import asyncio
import json
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from redis import Redis
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from local.offline_model.app import create_app
from shared.inference import configuring, health
from shared.kernel import aws, cache, ids, settings
from tests.http_server import listening

type Reply = Callable[[Request], Response]


@dataclass(frozen=True, slots=True)
class Asked:
    """One request that reached the provider."""

    path: str
    authorization: str
    body: dict[str, Any]


@dataclass(slots=True)
class Provider:
    """What the test tells the provider to do; without orders it answers as the offline model does."""

    key: str
    asked: list[Asked] = field(default_factory=list)
    # Set by a test to hold every answer back until as many requests have arrived as the barrier waits for.
    gate: threading.Barrier | None = None
    _orders: deque[Reply | None] = field(default_factory=deque)

    def fails(self, status: int, *, times: int = 1, headers: dict[str, str] | None = None, **error: Any) -> None:
        """Answer the next requests with OpenAI's error envelope."""
        self.answers(
            {"error": {"message": "No.", "type": "error", **error}}, status=status, times=times, headers=headers
        )

    def answers(self, body: Any, *, status: int = 200, times: int = 1, headers: dict[str, str] | None = None) -> None:
        """Answer the next requests with this JSON."""
        self.replies(lambda _: JSONResponse(body, status, headers), times=times)

    def replies(self, reply: Reply, *, times: int = 1) -> None:
        self._orders.extend([reply] * times)

    def breaks_connection(self, *, times: int = 1) -> None:
        """Hang up on the next requests without an answer."""
        self._orders.extend([None] * times)

    def recovers(self) -> None:
        """Forget every order, and let the breakers forget what they have seen, in Redis too."""
        self._orders.clear()
        health.board.forget()
        cache.attempt(lambda client: client.delete(*client.keys(f"{health.redis_key('')}*"), ""))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        content = await request.body()
        authorization = request.headers.get("authorization", "")
        self.asked.append(Asked(scope["path"], authorization, json.loads(content or b"{}")))
        if self.gate is not None:
            await asyncio.to_thread(self.gate.wait, 10)
        if not self._orders:
            await create_app()(scope, _replayed(content, receive), send)
            return
        reply = self._orders.popleft()
        if reply is None:
            # More body is announced than ever comes: the server drops the connection.
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"100")]})
            await send({"type": "http.response.body", "body": b"{", "more_body": True})
            return
        await reply(request)(scope, receive, send)


@pytest.fixture
def provider(database: str, redis: Redis, monkeypatch: pytest.MonkeyPatch) -> Iterator[Provider]:
    """A healthy provider, whose key is a canary: it must never be seen in a log, an error or an answer."""
    told = Provider(key=f"sk-canary-{ids.new().hex}")
    arn = f"arn:aws:secretsmanager:us-east-1:000000000000:secret:model-{ids.new().hex}"
    with listening(_Servers(told, secrets_manager({arn: told.key}))) as url:
        monkeypatch.setenv("RUNYARD_MODEL_BASE_URL", f"{url}/v1")
        monkeypatch.setenv("RUNYARD_MODEL_SECRET_ARN", arn)
        monkeypatch.setenv("AWS_ENDPOINT_URL_SECRETS_MANAGER", url)
        with forgotten():
            yield told


@contextmanager
def forgotten() -> Iterator[None]:
    """What a worker keeps between invocations must not pass from one test to the next."""

    def forget() -> None:
        settings.forget()
        aws.client.cache_clear()
        health.board.forget()
        configuring.forget()

    forget()
    yield
    forget()


def _replayed(content: bytes, receive: Receive) -> Receive:
    waiting = [content]

    async def again() -> Message:
        if waiting:
            return {"type": "http.request", "body": waiting.pop(), "more_body": False}
        return await receive()

    return again


@dataclass(frozen=True, slots=True)
class _Servers:
    """Provider and Secrets Manager behind one port, told apart by the header that every AWS request has."""

    provider: ASGIApp
    secrets_manager: ASGIApp

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        of_aws = "x-amz-target" in Request(scope).headers
        await (self.secrets_manager if of_aws else self.provider)(scope, receive, send)


def secrets_manager(values: dict[str, str]) -> Starlette:
    """Answer as AWS does to who reads, creates, changes and deletes secrets."""

    async def answer(request: Request) -> Response:
        given = json.loads(await request.body())
        action = request.headers["x-amz-target"].rpartition(".")[2]
        asked = given["Name"] if action == "CreateSecret" else given["SecretId"]
        if action != "CreateSecret" and asked not in values:
            return JSONResponse({"__type": "ResourceNotFoundException", "message": "not here"}, 400)
        known = {"ARN": asked, "Name": asked}
        match action:
            case "GetSecretValue":
                known["SecretString"] = values[asked]
            case "DeleteSecret":
                del values[asked]
            case _:
                values[asked] = given["SecretString"]
        return JSONResponse(known)

    return Starlette(routes=[Route("/", answer, methods=["POST"])])
