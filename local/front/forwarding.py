"""Forwards HTTP requests to the emulator's API and its answers back, bodies streamed, connections kept."""

from collections.abc import AsyncIterator, Iterable
from typing import Final

import httpx
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from local.front.errors import envelope
from local.front.upstream import Upstream

# What API Gateway takes; one byte more and it refuses the request as well.
LARGEST_BODY_BYTES: Final = 10 * 1024 * 1024
# More than twice what the authorizer reads; the emulator would hang up on much more, without a word.
_LARGEST_AUTHORIZATION: Final = 10_000
# They speak of one connection, not of the message (RFC 9110, 7.6.1).
_HOP_BY_HOP: Final = frozenset(
    {
        b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization", b"proxy-connection", b"te",
        b"trailer", b"transfer-encoding", b"upgrade",
    }
)  # fmt: skip
# Written anew on each side.
_OURS: Final = frozenset({b"host", b"x-forwarded-for", b"x-runyard-edge", b"date", b"server"})
# Longer than API Gateway waits for a function (30 s), so that its own answer to a slow one gets through.
_TIMEOUT: Final = httpx.Timeout(connect=2, read=65, write=65, pool=30)
# Shorter than the 75 s after which the emulator closes an idle connection, so that none is used as it closes.
_LIMITS: Final = httpx.Limits(max_connections=256, max_keepalive_connections=64, keepalive_expiry=60)


class _BodyTooLargeError(Exception):
    """A body without a declared length grew beyond the limit."""


class Forwarder:
    """An ASGI endpoint that hands each request on to the HTTP API."""

    def __init__(self, upstream: Upstream, public_url: str, edge_secret: str) -> None:
        self._upstream = upstream
        self._proof = (b"x-runyard-edge", edge_secret.encode())
        self._public_url = public_url
        self._base = httpx.URL(upstream.url)
        # The transport alone: redirects, cookies and credentials are the caller's business.
        self._transport = httpx.AsyncHTTPTransport(limits=_LIMITS, trust_env=False)

    async def close(self) -> None:
        await self._transport.aclose()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        try:
            response = await self._answer(request)
        except ClientDisconnect:
            return
        except _BodyTooLargeError:
            response = self._error(request, "payload_too_large")
        except httpx.TransportError:
            response = self._error(request, "emulator_unreachable")
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        api_id = self._upstream.apis().http
        if api_id is None:
            return self._error(request, "not_deployed")
        if len(request.headers.get("authorization", "")) > _LARGEST_AUTHORIZATION:
            return self._error(request, "malformed_authorization")
        declared = request.headers.get("content-length")
        if declared is not None and declared.isdigit() and int(declared) > LARGEST_BODY_BYTES:
            return self._error(request, "payload_too_large")
        answer = await self._transport.handle_async_request(self._outgoing(request, api_id))
        return await _relayed(answer)

    def _outgoing(self, request: Request, api_id: str) -> httpx.Request:
        host = (b"host", self._upstream.host(api_id).encode())
        headers = [host, self._proof, *_end_to_end(request.scope["headers"])]
        client = request.client.host if request.client else "unknown"
        if not request.headers.get("authorization", "").strip():
            headers = [(name, value) for name, value in headers if name != b"authorization"]
            # As CloudFront's function does: without one API Gateway would not even ask the authorizer.
            headers.append((b"authorization", b"none"))
        # Nothing of ours stands before this door: what comes along under this name is the client's own invention.
        headers.append((b"x-forwarded-for", client.encode()))
        has_body = "content-length" in request.headers or "transfer-encoding" in request.headers
        path = request.scope["raw_path"]
        if query := request.scope["query_string"]:
            path += b"?" + query
        return httpx.Request(
            request.method,
            self._base.copy_with(raw_path=path),
            headers=headers,
            content=_limited(request) if has_body else None,
            extensions={"timeout": _TIMEOUT.as_dict()},
        )

    def _error(self, request: Request, code: str) -> Response:
        return envelope(code, public_url=self._public_url, request_id=request.headers.get("x-request-id"))


def _end_to_end(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Return the headers meant for the far end: without the hop-by-hop ones and those that `Connection` names."""
    listed = list(headers)
    dropped = _OURS | _HOP_BY_HOP
    for name, value in listed:
        if name.lower() == b"connection":
            dropped |= {part.strip().lower() for part in value.split(b",")}
    return [(name, value) for name, value in listed if name.lower() not in dropped]


async def _limited(request: Request) -> AsyncIterator[bytes]:
    """Yield the request's body as it arrives. Raises `_BodyTooLargeError` once it is larger than allowed."""
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > LARGEST_BODY_BYTES:
            raise _BodyTooLargeError
        yield chunk


async def _relayed(answer: httpx.Response) -> Response:
    """Return the answer as it came: in one piece when its length is known, otherwise piece by piece."""
    headers = _end_to_end(answer.headers.raw)
    if "content-length" in answer.headers:
        # `aiter_raw` leaves compressed bodies compressed, as the headers say they are.
        response = Response(b"".join([chunk async for chunk in answer.aiter_raw()]), answer.status_code)
        await answer.aclose()
    else:
        response = StreamingResponse(_pieces(answer), answer.status_code)
    response.raw_headers = [(name.lower(), value) for name, value in headers]
    return response


async def _pieces(answer: httpx.Response) -> AsyncIterator[bytes]:
    try:
        async for chunk in answer.aiter_raw():
            yield chunk
    finally:
        await answer.aclose()
