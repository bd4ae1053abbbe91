"""Failures on demand: what `x-offline-fail` and `x-offline-delay-ms` do to an answer."""

import asyncio
import contextlib
from collections.abc import Sequence
from enum import StrEnum
from typing import Self

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from local.offline_model.errors import ApiError

FAIL_HEADER = "x-offline-fail"
DELAY_HEADER = "x-offline-delay-ms"
DELAY_LIMIT_MS = 120_000
TIMEOUT_S = 120
RETRY_AFTER_S = 1


class Fault(StrEnum):
    RATE_LIMITED = "429"
    SERVER_ERROR = "500"
    TIMEOUT = "timeout"
    BREAK_STREAM = "break-stream"

    @classmethod
    def parse(cls, text: str, *, source: str) -> Self:
        try:
            return cls(text)
        except ValueError:
            kinds = ", ".join(cls)
            raise ApiError(400, f"{source} is {text!r}; it may be {kinds}.", code="unknown_fault") from None


def fault_asked_by(headers: Headers) -> Fault | None:
    text = headers.get(FAIL_HEADER)
    return None if text is None else Fault.parse(text, source=FAIL_HEADER)


def delay_asked_by(headers: Headers) -> int:
    """Return the milliseconds to wait before the answer."""
    text = headers.get(DELAY_HEADER, "0")
    if not (text.isascii() and text.isdecimal() and int(text) <= DELAY_LIMIT_MS):
        message = f"{DELAY_HEADER} is {text!r}; it may be a whole number from 0 to {DELAY_LIMIT_MS}."
        raise ApiError(400, message, code="invalid_delay")
    return int(text)


async def apply(fault: Fault | None, receive: Receive) -> None:
    """Raise the error that was asked for, or hold the request until its client gives up; else do nothing.

    The request's body must have been read: `receive` then answers only when the client has gone.
    """
    if fault is Fault.RATE_LIMITED:
        raise ApiError(
            429,
            "The offline model was asked to answer 429.",
            kind="requests",
            code="rate_limit_exceeded",
            headers={"Retry-After": str(RETRY_AFTER_S)},
        )
    if fault is Fault.SERVER_ERROR:
        raise ApiError(500, "The offline model was asked to answer 500.", kind="server_error")
    if fault is Fault.TIMEOUT:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(_client_gone(receive), TIMEOUT_S)
        raise ApiError(504, "The offline model was asked not to answer.", kind="server_error")


async def _client_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class CutResponse(Response):
    """Sends the first half of an answer, then drops the connection without ending the answer."""

    def __init__(self, pieces: Sequence[bytes], *, media_type: str, content_length: int | None) -> None:
        super().__init__(media_type=media_type)
        self._pieces = pieces
        del self.headers["content-length"]
        if content_length is not None:
            self.headers["content-length"] = str(content_length)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        for piece in self._pieces:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        # Returning with more_body still true makes the server close the connection in mid-answer.


def cut_stream(events: Sequence[bytes]) -> CutResponse:
    return CutResponse(events[: len(events) // 2], media_type="text/event-stream", content_length=None)


def cut_body(body: bytes) -> CutResponse:
    return CutResponse([body[: len(body) // 2]], media_type="application/json", content_length=len(body))
