"""A closed-loop load generator that takes little of the processor that it shares with what it loads.

So many clients in one process, each with a connection of its own that is kept alive, one request after the other. Each
answer is read to its end and compared with what the stub says: one that isn't 200, or says anything else, ends the run.
"""

import asyncio
import contextlib
import json
import multiprocessing
import re
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import cast
from urllib.parse import urlsplit

import httptools
import msgspec
import uvloop

from bench.gateway import stub

_PATH = "/v1/chat/completions"
_PROMPT = "Say the words that you always say, in the order in which you always say them. "
_CONNECTS_WITHIN_S = 10.0
_ANSWERS_WITHIN_S = 60.0
_REQUESTS_WITHIN_S = 1800.0
_FIRST_CONTENT = re.compile(rb'"content":\s*"[^"]')


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What is to be asked of whom: for `seconds`, or `requests` in all, whichever is given."""

    url: str
    key: str
    model: str
    clients: int
    seconds: float | None = None
    requests: int | None = None
    stream: bool = False
    chunks: int = stub.CHUNKS

    def request(self) -> bytes:
        asked: dict[str, object] = {"model": self.model, "messages": [{"role": "user", "content": _PROMPT * 4}]}
        if self.stream:
            asked |= {"stream": True, "stream_options": {"include_usage": True}}
        body = json.dumps(asked).encode()
        parts = urlsplit(self.url)
        head = [
            f"POST {parts.path}{_PATH} HTTP/1.1",
            f"host: {parts.netloc}",
            f"authorization: Bearer {self.key}",
            "content-type: application/json",
            "accept: */*",
            f"content-length: {len(body)}",
        ]
        return "\r\n".join(head).encode() + b"\r\n\r\n" + body


@dataclass(frozen=True, slots=True)
class Loaded:
    """What came of it: for each answer the seconds to its end and, of a stream, to its first word."""

    elapsed_s: float
    times_s: list[float]
    first_s: list[float]

    @property
    def count(self) -> int:
        return len(self.times_s)


class _Message(msgspec.Struct):
    content: str | None = None


class _Choice(msgspec.Struct):
    message: _Message = msgspec.field(default_factory=_Message)
    delta: _Message = msgspec.field(default_factory=_Message)


class _Usage(msgspec.Struct):
    completion_tokens: int


class _Completion(msgspec.Struct):
    choices: list[_Choice]
    usage: _Usage | None = None


_decode = msgspec.json.Decoder(_Completion).decode


def said(body: bytes) -> tuple[str, int | None]:
    """Return the words of a whole answer and the tokens it counts. Raises `msgspec.DecodeError`."""
    completion = _decode(body)
    tokens = None if completion.usage is None else completion.usage.completion_tokens
    return completion.choices[0].message.content or "", tokens


def streamed(body: bytes) -> tuple[str, int | None]:
    """Return the same of a stream that is over. Raises `msgspec.DecodeError`, or `ValueError` without an end."""
    events = [line[5:].strip() for line in body.split(b"\n") if line.startswith(b"data:")]
    if not events or events.pop() != b"[DONE]":
        raise ValueError("no [DONE] at the end")
    completions = [_decode(event) for event in events]
    text = "".join(each.choices[0].delta.content or "" for each in completions if each.choices)
    tokens = [each.usage.completion_tokens for each in completions if each.usage is not None]
    return text, tokens[-1] if tokens else None


@dataclass(slots=True)
class _Run:
    """What the clients of one job share."""

    job: Job
    done: asyncio.Future[None]
    request: bytes
    words: str
    asked: int = 0
    busy: int = 0
    ends_at: float = float("inf")
    times_s: list[float] = field(default_factory=list)
    first_s: list[float] = field(default_factory=list)

    def may_ask(self, now: float) -> bool:
        if self.done.done() or now >= self.ends_at:
            return False
        return self.job.requests is None or self.asked < self.job.requests

    def fail(self, why: str) -> None:
        if not self.done.done():
            self.done.set_exception(RuntimeError(why))

    def one_is_idle(self) -> None:
        self.busy -= 1
        if self.busy == 0 and not self.done.done():
            self.done.set_result(None)


class _Client(asyncio.Protocol):
    """One connection: asks, reads the answer to its end, takes down the times, asks again."""

    def __init__(self, run: _Run) -> None:
        self._run = run
        self._parser = httptools.HttpResponseParser(self)
        self._body: list[bytes] = []
        self._began = 0.0
        self._first: float | None = None
        self._over = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's own are no subclass of it.
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, error: Exception | None) -> None:
        if not self._over:
            self._run.fail(f"a connection was closed before its answer ended: {error}")

    def close(self) -> None:
        self._over = True
        self._transport.close()

    def ask(self) -> None:
        self._run.asked += 1
        self._body.clear()
        self._first = None
        self._over = False
        self._began = time.perf_counter()
        self._transport.write(self._run.request)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._run.fail(f"an answer is no HTTP: {error}")

    def on_body(self, body: bytes) -> None:
        self._body.append(body)
        if self._run.job.stream and self._first is None and _FIRST_CONTENT.search(b"".join(self._body)):
            self._first = time.perf_counter()

    def on_message_complete(self) -> None:
        now = time.perf_counter()
        run = self._run
        self._over = True
        if (wrong := self._wrong()) is not None:
            run.fail(wrong)
            return
        run.times_s.append(now - self._began)
        if self._first is not None:
            run.first_s.append(self._first - self._began)
        if not self._parser.should_keep_alive():
            run.fail("an answer closes its connection")
        elif run.may_ask(now):
            # Not from here: the parser is still in the middle of this message.
            asyncio.get_running_loop().call_soon(self.ask)
        else:
            run.one_is_idle()

    def _wrong(self) -> str | None:
        """Return what is wrong with the answer, if anything is."""
        body = b"".join(self._body)
        shown = body[:500].decode(errors="replace")
        if (status := self._parser.get_status_code()) != 200:
            return f"an answer of status {status}: {shown}"
        try:
            text, tokens = streamed(body) if self._run.job.stream else said(body)
        except (ValueError, IndexError) as error:
            return f"a malformed answer ({error}): {shown}"
        if text != self._run.words or tokens != self._run.job.chunks:
            return f"an answer that isn't the stub's, with {tokens} tokens: {shown}"
        return None


async def _connect(run: _Run) -> _Client:
    parts = urlsplit(run.job.url)
    assert parts.hostname is not None
    assert parts.port is not None
    loop = asyncio.get_running_loop()
    return (await loop.create_connection(lambda: _Client(run), parts.hostname, parts.port))[1]


async def _load(job: Job) -> Loaded:
    loop = asyncio.get_running_loop()
    run = _Run(job, loop.create_future(), job.request(), "".join(stub.words(job.chunks)))
    clients: list[_Client] = []
    try:
        async with asyncio.timeout(_CONNECTS_WITHIN_S):
            while len(clients) < job.clients:
                clients.append(await _connect(run))
        began = time.perf_counter()
        if job.seconds is not None:
            run.ends_at = began + job.seconds
        asking = clients[: job.requests] if job.requests is not None else clients
        run.busy = len(asking)
        for client in asking:
            client.ask()
        async with asyncio.timeout(_REQUESTS_WITHIN_S if job.seconds is None else job.seconds + _ANSWERS_WITHIN_S):
            await run.done
        return Loaded(time.perf_counter() - began, run.times_s, run.first_s)
    finally:
        for client in clients:
            client.close()


def _obey(orders: Connection) -> None:
    # Whoever gave the orders is told of the interrupt as well, and ends this process.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(EOFError):
        while True:
            job = orders.recv()
            try:
                orders.send(uvloop.run(_load(job)))
            except (OSError, RuntimeError, TimeoutError) as error:
                orders.send(f"{type(error).__name__}: {error}")


@dataclass(frozen=True, slots=True)
class Generator:
    """The process that asks, as seen from the one that measures."""

    orders: Connection

    def load(self, job: Job) -> Loaded:
        """Do a job. Raises `SystemExit` at the first answer that isn't the stub's."""
        self.orders.send(job)
        try:
            loaded = self.orders.recv()
        except EOFError:
            raise SystemExit("The load generator ended by itself.") from None
        if not isinstance(loaded, Loaded):
            raise SystemExit(f"{job.url} with {job.clients} clients: {loaded}")
        return loaded


@contextmanager
def generator() -> Iterator[Generator]:
    """Yield a load generator in a process of its own."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_obey, args=(theirs,), daemon=True)
    process.start()
    theirs.close()
    try:
        yield Generator(ours)
    finally:
        ours.close()
        process.terminate()
        process.join()
