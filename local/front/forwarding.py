"""Forwards HTTP requests and hands their answers back: every byte as soon as it is there, for as long as someone waits.

Bodies are streamed, connections kept. A client that goes away takes its request along: the connection on which it is
being answered is closed at once, which is how whoever answers finds out.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable
from typing import Final

import httpx
from starlette.requests import ClientDisconnect, Request
from starlette.types import Receive, Scope, Send

from local.front.destinations import Destination
from local.front.errors import envelope

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
# Written anew on each side. What Lambda's Web Adapter says of a request is no client's to say.
_OURS: Final = frozenset(
    {
        b"host", b"x-forwarded-for", b"x-runyard-edge", b"x-amzn-request-context", b"x-amzn-lambda-context", b"date",
        b"server",
    }
)  # fmt: skip
# Shorter than the 75 s after which those who answer close an idle connection, so that none is used as it closes.
_LIMITS: Final = httpx.Limits(max_connections=256, max_keepalive_connections=64, keepalive_expiry=60)


class _BodyTooLargeError(Exception):
    """A body without a declared length grew beyond the limit."""


class _Body:
    """A request's body as it arrives, and after it the news that the client has gone."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._ended = asyncio.Event()

    async def read(self) -> AsyncIterator[bytes]:
        """Yield the body. Raises `_BodyTooLargeError`, and `ClientDisconnect` for a client that goes meanwhile."""
        size = 0
        more = True
        while more:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            size += len(message.get("body", b""))
            if size > LARGEST_BODY_BYTES:
                raise _BodyTooLargeError
            yield message.get("body", b"")
            more = message.get("more_body", False)
        self._ended.set()

    async def skip(self) -> None:
        """Take note that there is none."""
        async for _ in self.read():
            pass

    async def client_gone(self) -> None:
        """Return once the client has sent all and gone away."""
        await self._ended.wait()
        while (await self._receive())["type"] != "http.disconnect":
            pass


class Forwarder:
    """An ASGI endpoint that hands each request on to one destination."""

    def __init__(self, destination: Destination, public_url: str, edge_secret: str) -> None:
        self._destination = destination
        self._proof = (b"x-runyard-edge", edge_secret.encode())
        self._public_url = public_url
        self._base = httpx.URL(destination.url)
        self._timeout = httpx.Timeout(connect=2, read=destination.patience_s, write=65, pool=30).as_dict()
        # The transport alone: redirects, cookies and credentials are the caller's business.
        self._transport = httpx.AsyncHTTPTransport(limits=_LIMITS, trust_env=False)

    async def close(self) -> None:
        await self._transport.aclose()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope)
        if (refusal := self._refusal(request)) is not None:
            await self._tell(refusal, request, receive, send)
            return
        body = _Body(receive)
        answering = asyncio.create_task(self._answer(request, body, receive, send))
        leaving = asyncio.create_task(body.client_gone())
        try:
            await asyncio.wait({answering, leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (answering, leaving):
                task.cancel()
            await asyncio.wait({answering, leaving})
        if not answering.cancelled():
            answering.result()

    def _refusal(self, request: Request) -> str | None:
        """Return the error code of a request that isn't handed on."""
        if self._destination.host() is None:
            return "not_deployed"
        if len(request.headers.get("authorization", "")) > _LARGEST_AUTHORIZATION:
            return "malformed_authorization"
        declared = request.headers.get("content-length")
        if declared is not None and declared.isdigit() and int(declared) > LARGEST_BODY_BYTES:
            return "payload_too_large"
        return None

    async def _answer(self, request: Request, body: _Body, receive: Receive, send: Send) -> None:
        try:
            answer = await self._transport.handle_async_request(await self._outgoing(request, body))
        except ClientDisconnect:
            return
        except _BodyTooLargeError:
            await self._tell("payload_too_large", request, receive, send)
        except httpx.TransportError:
            await self._tell(self._destination.unreachable, request, receive, send)
        else:
            await self._relay(answer, request, receive, send)

    async def _relay(self, answer: httpx.Response, request: Request, receive: Receive, send: Send) -> None:
        """Hand the answer back as it comes: in one piece when its length is known, otherwise piece by piece."""
        start = {
            "type": "http.response.start",
            "status": answer.status_code,
            "headers": _end_to_end(answer.headers.raw),
        }
        # `aiter_raw` leaves compressed bodies compressed, as the headers say they are.
        async with contextlib.aclosing(answer):
            if "content-length" in answer.headers:
                try:
                    whole = b"".join([chunk async for chunk in answer.aiter_raw()])
                except httpx.TransportError:
                    await self._tell(self._destination.unreachable, request, receive, send)
                    return
                await send(start)
                await send({"type": "http.response.body", "body": whole})
                return
            await send(start)
            # One that breaks off is broken off here as well: returning without an end closes the connection.
            with contextlib.suppress(httpx.TransportError):
                async for chunk in answer.aiter_raw():
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
                await send({"type": "http.response.body", "body": b""})

    async def _outgoing(self, request: Request, body: _Body) -> httpx.Request:
        host = (b"host", (self._destination.host() or "").encode())
        headers = [host, self._proof, *_end_to_end(request.scope["headers"])]
        client = request.client.host if request.client else "unknown"
        if self._destination.asks_an_authorizer and not request.headers.get("authorization", "").strip():
            headers = [(name, value) for name, value in headers if name != b"authorization"]
            # As CloudFront's function does: without one API Gateway would not even ask the authorizer.
            headers.append((b"authorization", b"none"))
        # Nothing of ours stands before this door: what comes along under this name is the client's own invention.
        headers.append((b"x-forwarded-for", client.encode()))
        has_body = "content-length" in request.headers or "transfer-encoding" in request.headers
        if not has_body:
            await body.skip()
        path = request.scope["raw_path"]
        if query := request.scope["query_string"]:
            path += b"?" + query
        return httpx.Request(
            request.method,
            self._base.copy_with(raw_path=path),
            headers=headers,
            content=body.read() if has_body else None,
            extensions={"timeout": self._timeout},
        )

    async def _tell(self, code: str, request: Request, receive: Receive, send: Send) -> None:
        response = envelope(code, public_url=self._public_url, request_id=request.headers.get("x-request-id"))
        await response(request.scope, receive, send)


def _end_to_end(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Return the headers meant for the far end: without the hop-by-hop ones and those that `Connection` names."""
    listed = [(name.lower(), value) for name, value in headers]
    dropped = _OURS | _HOP_BY_HOP
    for name, value in listed:
        if name == b"connection":
            dropped |= {part.strip().lower() for part in value.split(b",")}
    return [(name, value) for name, value in listed if name not in dropped]
