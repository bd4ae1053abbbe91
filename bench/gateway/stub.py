"""A provider that speaks OpenAI's protocol and takes next to no time: what is measured is what stands before it.

`POST /v1/chat/completions` always says the same words, whole or as server-sent events of one word each;
`POST /v1/embeddings`, `GET /v1/models` and `GET /health` are there as well. It runs in a process of its own, on a
free port of the loopback, until its standard input ends, that is, until who started it ends, however that happens.
"""

import argparse
import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import httptools
import uvloop

LOOPBACK = "127.0.0.1"
MODEL = "stub"
KEY = "sk-stub"
CHUNKS = 20

_CREATED = 1_700_000_000
_EMBEDDING = [round(number / 64, 6) for number in range(64)]


def words(chunks: int = CHUNKS) -> list[str]:
    """Return what is said, as the pieces that are streamed."""
    return [f"word{number} " for number in range(chunks)]


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _answer(body: bytes, status: str = "200 OK") -> bytes:
    head = f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


def _chunk(payload: bytes) -> bytes:
    event = b"data: " + payload + b"\n\n"
    return f"{len(event):x}\r\n".encode() + event + b"\r\n"


_STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
    b"cache-control: no-cache\r\ntransfer-encoding: chunked\r\n\r\n"
)
_STREAM_END = _chunk(b"[DONE]") + b"0\r\n\r\n"


class Answers:
    """All there is to send, put together once."""

    def __init__(self, chunks: int) -> None:
        said = words(chunks)
        usage = {"prompt_tokens": 12, "completion_tokens": chunks, "total_tokens": 12 + chunks}
        common: dict[str, Any] = {"id": "chatcmpl-stub", "created": _CREATED, "model": MODEL}
        message = {"role": "assistant", "content": "".join(said)}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
        whole = common | {"object": "chat.completion", "choices": [choice], "usage": usage}
        self.completion = _answer(_json(whole))
        event = common | {"object": "chat.completion.chunk"}
        deltas: list[tuple[dict[str, str], str | None]] = [({"role": "assistant", "content": ""}, None)]
        deltas += [({"content": word}, None) for word in said]
        deltas.append(({}, "stop"))
        events = [
            _chunk(_json(event | {"choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}))
            for delta, reason in deltas
        ]
        # The role and the first word leave together with the head: the first token takes no time.
        self.stream = [_STREAM_HEAD + events[0] + events[1], *events[2:]]
        self.stream_usage = _chunk(_json(event | {"choices": [], "usage": usage}))
        data = [{"object": "embedding", "index": 0, "embedding": _EMBEDDING}]
        tokens = {"prompt_tokens": 12, "total_tokens": 12}
        self.embedding = _answer(_json({"object": "list", "model": MODEL, "data": data, "usage": tokens}))
        model = {"id": MODEL, "object": "model", "created": _CREATED, "owned_by": "bench"}
        self.by_path = {
            b"/v1/models": _answer(_json({"object": "list", "data": [model]})),
            b"/health": _answer(_json({"status": "ok"})),
        }
        self.missing = _answer(_json({"error": {"message": "no such route", "type": "not_found"}}), "404 Not Found")


class _Connection(asyncio.Protocol):
    """One keep-alive connection; its requests come one after the other, as HTTP clients send them."""

    def __init__(self, answers: Answers) -> None:
        self._answers = answers
        self._parser = httptools.HttpRequestParser(self)
        self._url = b""
        self._body: list[bytes] = []
        self._loop = asyncio.get_running_loop()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's own are no subclass of it.
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._transport.close()

    def on_message_begin(self) -> None:
        self._url = b""
        self._body.clear()

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        answers = self._answers
        if self._url == b"/v1/chat/completions":
            body = b"".join(self._body)
            if b'"stream"' in body and (asked := json.loads(body)).get("stream"):
                usage = bool((asked.get("stream_options") or {}).get("include_usage"))
                end = answers.stream_usage + _STREAM_END if usage else _STREAM_END
                self._stream(iter([*answers.stream, end]))
            else:
                self._transport.write(answers.completion)
        elif self._url == b"/v1/embeddings":
            self._transport.write(answers.embedding)
        else:
            self._transport.write(answers.by_path.get(self._url, answers.missing))

    def _stream(self, events: Iterator[bytes]) -> None:
        """Send an event in each turn of the loop: as pieces of their own, not as one that holds them all."""
        event = next(events, None)
        if event is not None and not self._transport.is_closing():
            self._transport.write(event)
            self._loop.call_soon(self._stream, events)


async def _serve(port: int, chunks: int) -> None:
    loop = asyncio.get_running_loop()
    answers = Answers(chunks)
    server = await loop.create_server(lambda: _Connection(answers), LOOPBACK, port, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.buffer.read)


@contextmanager
def stub(chunks: int = CHUNKS) -> Iterator[tuple[str, int]]:
    """Yield the stub's base URL (without `/v1`) and its process id."""
    command = [sys.executable, "-m", "bench.gateway.stub", "--chunks", str(chunks)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        port = process.stdout.readline().strip()
        if not port:
            raise SystemExit("The stub provider didn't start.")
        try:
            yield f"http://{LOOPBACK}:{port}", process.pid
        finally:
            process.stdin.close()


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench.gateway.stub", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--port", type=int, default=0, help="where it listens (default: a free one, which is printed)")
    parser.add_argument("--chunks", type=int, default=CHUNKS, help=f"words of each answer (default {CHUNKS})")
    options = parser.parse_args(arguments)
    uvloop.run(_serve(options.port, options.chunks))


if __name__ == "__main__":
    main(sys.argv[1:])
