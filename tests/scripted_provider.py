"""A provider that says, byte by byte, what a test has it say, and notes what it was asked and when it was left."""

import asyncio
import json
import threading
import traceback
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from tests.byte_server import byte_server

HANG = object()


@dataclass(frozen=True, slots=True)
class Heard:
    """One request."""

    method: str
    path: str
    headers: dict[str, str]
    content: bytes

    @property
    def body(self) -> Any:
        return json.loads(self.content or b"null")


@dataclass(slots=True)
class Scripted:
    """`says` are the answers to come, each a list of pieces: bytes, seconds to wait, or `HANG` until it is left."""

    url: str = ""
    heard: list[Heard] = field(default_factory=list)
    says: deque[list[Any]] = field(default_factory=deque)
    connections: int = 0
    # Set once it was asked for something.
    asked: threading.Event = field(default_factory=threading.Event)
    # Set when the other side hung up before its answer was complete.
    left: threading.Event = field(default_factory=threading.Event)

    def will(self, *answers: list[Any]) -> None:
        self.says.extend(answers)


def answer(
    body: Any, *, status: int = 200, kind: str = "application/json", headers: dict[str, str] | None = None
) -> list[Any]:
    """Return a whole answer: of bytes as they are, of anything else as JSON."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = {"content-type": kind, "content-length": str(len(content)), **(headers or {})}
    return [_head(status, head) + content]


def chunked(*pieces: Any, kind: str = "text/event-stream", end: bool = True) -> list[Any]:
    """Return an answer that comes in pieces."""
    framed = [b"%x\r\n%b\r\n" % (len(piece), piece) if isinstance(piece, bytes) else piece for piece in pieces]
    return [
        _head(200, {"content-type": kind, "transfer-encoding": "chunked"}),
        *framed,
        *([b"0\r\n\r\n"] if end else []),
    ]


def events(*bodies: Any) -> list[bytes]:
    """Return server-sent events, each with its JSON; text goes as it is."""
    return [b"data: " + (each if isinstance(each, bytes) else json.dumps(each).encode()) + b"\n\n" for each in bodies]


def all_there_is(error: BaseException) -> str:
    """Return everything that a careless handler could write down of an error: its causes, and all frames' variables."""
    pending: list[BaseException | None] = [error]
    told: list[object] = []
    while pending:
        each = pending.pop()
        if each is not None:
            told += [each, each.args, each.__dict__]
            # Only the product's variables and those below: a test knows what it hides.
            told += [
                (frame.f_code.co_name, frame.f_locals)
                for frame, _ in traceback.walk_tb(each.__traceback__)
                if "/tests/" not in frame.f_code.co_filename
            ]
            pending += [each.__cause__, each.__context__]
    return repr(told)


def _head(status: int, headers: dict[str, str]) -> bytes:
    lines = [f"HTTP/1.1 {status} Said", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


@contextmanager
def scripted_provider() -> Iterator[Scripted]:
    """Run one in a thread of this process, on a free port of the loopback."""
    told = Scripted()
    with byte_server(lambda reader, writer: _connection(told, reader, writer)) as port:
        told.url = f"http://127.0.0.1:{port}"
        yield told


async def _connection(told: Scripted, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    told.connections += 1
    try:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            method, path, _ = head.split(" ", 2)
            lines = [line.partition(": ") for line in head.split("\r\n")[1:] if line]
            headers = {name.lower(): value for name, _, value in lines}
            content = await reader.readexactly(int(headers.get("content-length", 0)))
            told.heard.append(Heard(method, path, headers, content))
            told.asked.set()
            if not await _say(told, told.says.popleft(), reader, writer):
                return
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


async def _say(told: Scripted, pieces: list[Any], reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    """Return whether the connection goes on: an answer of no pieces, or whose last one is None, ends it."""
    for piece in pieces:
        if piece is None:
            return False
        if isinstance(piece, bytes):
            writer.write(piece)
            try:
                await writer.drain()
            except ConnectionError:
                told.left.set()
                return False
            continue
        # Nothing more is asked on a connection whose answer isn't over: what can be read is its end.
        with suppress(TimeoutError):
            async with asyncio.timeout(None if piece is HANG else piece):
                await reader.read(1)
                told.left.set()
                return False
    return bool(pieces)
