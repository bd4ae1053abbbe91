"""A provider that fails as it is told, in ways that no HTTP framework would: it writes its answers byte by byte."""

import asyncio
import json
import socket
import struct
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from tests.byte_server import byte_server

CHUNKS: Final = ["Once", " upon", " a", " time."]
_HEAD: Final = {"id": "chatcmpl-1", "created": 1_700_000_000}
_USAGE: Final = {"prompt_tokens": 10, "completion_tokens": 4, "total_tokens": 14}
_TOO_LONG: Final = {
    "error": {
        "message": "This model's maximum context length is 10 tokens.",
        "type": "invalid_request_error",
        "code": "context_length_exceeded",
    }
}
_ERROR: Final = {"error": {"message": "No.", "type": "error"}}
TEN_MB: Final = 10 * 2**20


@dataclass(slots=True)
class Faulty:
    """What each model does, by its name: `does[model]` is one of `FAULTS`, else it answers. Counts who was asked."""

    url: str = ""
    does: dict[str, str] = field(default_factory=dict)
    asked: Counter[str] = field(default_factory=Counter)
    # How many requests ended because the other side hung up.
    abandoned: int = 0
    port: int = 0
    # For each model, what it does next, before what it always does.
    next: dict[str, list[str]] = field(default_factory=dict)

    def fault(self, model: str) -> str:
        waiting = self.next.get(model)
        return waiting.pop(0) if waiting else self.does.get(model, "")


@contextmanager
def faulty_provider() -> Iterator[Faulty]:
    """Run one in a thread of this process, on a free port of the loopback."""
    told = Faulty()
    with byte_server(lambda reader, writer: _connection(told, reader, writer)) as told.port:
        told.url = f"http://127.0.0.1:{told.port}/v1"
        yield told


async def _connection(told: Faulty, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(
                int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")
            )
            body = json.loads(await reader.readexactly(length))
            told.asked[body["model"]] += 1
            fault = told.fault(body["model"])
            answer = FAULTS[fault] if fault else _well
            if not await _answered(told, answer(body), reader, writer):
                return
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


async def _answered(
    told: Faulty, parts: list[bytes | float | None], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> bool:
    """Send the parts; a number is seconds to wait, None resets the connection. Return whether it is kept."""
    for part in parts:
        if part is None:
            # Closed with a lingering time of zero, a socket sends RST.
            linger = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            writer.transport.abort()
            return False
        if isinstance(part, float):
            if not await _waited(part, reader):
                told.abandoned += 1
                return False
            continue
        writer.write(part)
        await writer.drain()
    return parts[-1:] != [b""]


async def _waited(seconds: float, reader: asyncio.StreamReader) -> bool:
    """Wait; return whether the other side is still there."""
    try:
        async with asyncio.timeout(seconds):
            return bool(await reader.read(1))
    except TimeoutError:
        return True


def _whole(body: dict[str, Any] | bytes, status: str = "200 OK", *headers: str) -> list[bytes | float | None]:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status}", f"content-length: {len(content)}", *(headers or ["content-type: application/json"])]
    return ["\r\n".join([*lines, "", ""]).encode() + content]


def _event(delta: dict[str, Any], reason: str | None = None, **more: Any) -> bytes:
    choices = [{"index": 0, "delta": delta, "finish_reason": reason}]
    body = {**_HEAD, "object": "chat.completion.chunk", "model": "m", "choices": choices, **more}
    return _piece(b"data: " + json.dumps(body).encode() + b"\n\n")


def _word(text: str) -> bytes:
    return _event({"content": text})


def _piece(content: bytes) -> bytes:
    return f"{len(content):x}\r\n".encode() + content + b"\r\n"


def _stream(*events: bytes | float | None, kind: str = "text/event-stream") -> list[bytes | float | None]:
    head = f"HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ntransfer-encoding: chunked\r\n\r\n".encode()
    return [head, _event({"role": "assistant", "content": ""}), *events]


_ENDING: Final = [_event({}, "stop"), _event({}, usage=_USAGE), _piece(b"data: [DONE]\n\n") + b"0\r\n\r\n"]


def _well(body: dict[str, Any]) -> list[bytes | float | None]:
    if "input" in body:
        data = [{"index": index, "embedding": [1.0, float(index)]} for index, _ in enumerate(body["input"])]
        return _whole({"object": "list", "data": data, "usage": {"prompt_tokens": 3, "total_tokens": 3}})
    if body.get("stream"):
        return _stream(*map(_word, CHUNKS), *_ENDING)
    return _whole(completion("".join(CHUNKS)))


def completion(text: str) -> dict[str, Any]:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    return {**_HEAD, "object": "chat.completion", "model": "m", "choices": [choice], "usage": _USAGE}


def _malformed(body: dict[str, Any]) -> list[bytes | float | None]:
    broken = b'{"id": "chatcmpl-1", "choices": [{"index": 0,'
    return _stream(_piece(b"data: " + broken + b"\n\n")) if body.get("stream") else _whole(broken)


def _truncated(body: dict[str, Any]) -> list[bytes | float | None]:
    """A stream that ends after two words; an answer that is shorter than it announced."""
    if body.get("stream"):
        return [*_stream(*map(_word, CHUNKS[:2])), b"0\r\n\r\n"]
    return [_whole(completion("Once upon"))[0][:-40], b""]  # type: ignore[index]


def _wrong_type(body: dict[str, Any]) -> list[bytes | float | None]:
    return _whole(b"<html>Welcome to the proxy!</html>", "200 OK", "content-type: text/html")


def _large(body: dict[str, Any]) -> list[bytes | float | None]:
    if not body.get("stream"):
        return _whole(completion("x" * TEN_MB))
    pieces = [_event({"content": "x" * 2**16})] * (TEN_MB // 2**16)
    return _stream(*pieces, *_ENDING)


FAULTS: Final[dict[str, Callable[[dict[str, Any]], list[bytes | float | None]]]] = {
    "429": lambda _: _whole(_ERROR, "429 Too Many Requests"),
    "429-soon": lambda _: _whole(_ERROR, "429 Too Many Requests", "content-type: application/json", "retry-after: 1"),
    "429-later": lambda _: _whole(_ERROR, "429 Too Many Requests", "content-type: application/json", "retry-after: 30"),
    "500": lambda _: _whole(_ERROR, "500 Internal Server Error"),
    "503": lambda _: _whole(_ERROR, "503 Service Unavailable"),
    "401": lambda _: _whole(_ERROR, "401 Unauthorized"),
    "404": lambda _: _whole(_ERROR, "404 Not Found"),
    "400": lambda _: _whole(_ERROR, "400 Bad Request"),
    "hang": lambda _: [30.0, b""],
    # Two words, and then nothing more.
    "hang-in-stream": lambda body: [
        *(_stream(*map(_word, CHUNKS[:2])) if body.get("stream") else ()),
        30.0,
        b"",
    ],
    "reset": lambda _: [None],
    "malformed": _malformed,
    "truncated": _truncated,
    # A stream that ends after its opening, before its first word.
    "truncated-early": lambda body: [*_stream(), b"0\r\n\r\n"] if body.get("stream") else _truncated(body),
    "wrong-type": _wrong_type,
    "too-long": lambda _: _whole(_TOO_LONG, "400 Bad Request"),
    "10mb": _large,
    "silent": lambda _: _stream(*_ENDING),
    "tool": lambda _: _stream(
        _event(
            {"tool_calls": [{"index": 0, "id": "c1", "type": "function", "function": {"name": "f", "arguments": ""}}]}
        ),
        *_ENDING,
    ),
    "endless-opening": lambda _: _stream(*[_event({})] * 1_100, *_ENDING),
}
