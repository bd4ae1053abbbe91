"""Calls a Lambda handler as API Gateway would: with a captured HTTP API event, made over for one request."""

import asyncio
import atexit
import base64
import copy
import json as jsons
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

from aws_lambda_powertools.utilities.typing import LambdaContext

from shared.kernel.caller import Caller
from shared.kernel.telemetry import Handler

_CAPTURED = jsons.loads((Path(__file__).resolve().parent.parent / "events" / "api" / "request.json").read_text())


@dataclass(frozen=True, slots=True)
class Answer:
    """What the client would receive."""

    status: int
    headers: dict[str, str]
    text: str
    cookies: tuple[str, ...] = ()

    @property
    def json(self) -> Any:
        return jsons.loads(self.text)

    @property
    def error(self) -> str:
        """The error's stable code."""
        return str(self.json["error"]["code"])


class Context(LambdaContext):
    """The Lambda context of one invocation."""

    def __init__(self) -> None:
        self._function_name = "test"
        self._memory_limit_in_mb = 512
        self._invoked_function_arn = "arn:aws:lambda:us-east-1:000000000000:function:test"
        self._aws_request_id = str(uuid4())

    @staticmethod
    def get_remaining_time_in_millis() -> int:
        return 900_000


def call(
    handler: Handler,
    method: str,
    path: str,
    caller: Caller | None = None,
    *,
    json: Any = None,
    content: bytes | None = None,
    headers: Mapping[str, str] = MappingProxyType({}),
) -> Answer:
    """Return the handler's answer. `caller` is whom the authorizer found; None where a route has no authorizer.

    `path` may carry a query; the body is `json`, or the bytes of `content`.
    """
    event = request(method, path, caller, json=json, content=content, headers=headers)
    with _event_loop():
        answer = handler(event, Context())
    text = answer.get("body") or ""
    if answer.get("isBase64Encoded"):
        text = base64.b64decode(text).decode()
    given = {name.lower(): value for name, value in answer["headers"].items()}
    return Answer(answer["statusCode"], given, text, tuple(answer.get("cookies") or ()))


# A Lambda function has one thread and its loop. Made before any handler is imported: Mangum would make one otherwise,
# which nobody closes.
MAIN_LOOP = asyncio.new_event_loop()
asyncio.set_event_loop(MAIN_LOOP)
atexit.register(MAIN_LOOP.close)


@contextmanager
def _event_loop() -> Iterator[None]:
    """Give this thread a loop, which another test may have taken away; a test's other threads have one meanwhile."""
    if threading.current_thread() is threading.main_thread():
        asyncio.set_event_loop(MAIN_LOOP)
        yield
        return
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        yield
    finally:
        asyncio.set_event_loop(None)
        loop.close()


def request(
    method: str,
    path: str,
    caller: Caller | None,
    *,
    json: Any = None,
    content: bytes | None = None,
    headers: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, Any]:
    """Return the event of one request, in the HTTP API's payload format 2.0."""
    url = urlsplit(path)
    event: dict[str, Any] = copy.deepcopy(_CAPTURED)
    body = _encode(json) if content is None else content
    event["rawPath"] = url.path
    event["rawQueryString"] = url.query
    event["routeKey"] = event["requestContext"]["routeKey"] = f"{method} {url.path}"
    event["headers"] |= {"content-length": str(len(body or b""))} | {k.lower(): v for k, v in headers.items()}
    event["body"] = None if body is None else base64.b64encode(body).decode()
    event["isBase64Encoded"] = body is not None
    context = event["requestContext"]
    context["requestId"] = str(uuid4())
    context["http"] |= {"method": method, "path": url.path}
    if caller is None:
        del context["authorizer"]
        del event["headers"]["authorization"]
    else:
        context["authorizer"] = {"lambda": caller.to_context()}
    return event


def _encode(value: Any) -> bytes | None:
    return None if value is None else jsons.dumps(value).encode()
