"""Reads a stream of server-sent events to its end, within the time there is for it."""

import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Final, Protocol, cast

import httpx2

from shared.inference.answers import Chunk
from shared.inference.providers import failures, sending
from shared.inference.providers.connections import Stream
from shared.inference.providers.sse import Events
from shared.kernel.errors import RunyardError

# How long a stream may take to close after it said that it is done; a connection that isn't closed is kept.
_FAREWELL_S: Final = 0.2


class Reader(Protocol):
    """Makes chunks of a provider's events. `done`: nothing that comes any more belongs to the answer."""

    done: bool

    def read(self, event: bytes) -> Sequence[Chunk]:
        """Return what the event adds, nothing once all is done; raise what error of ours it reports, or is."""
        ...

    def is_whole(self) -> bool:
        """Return whether an answer may end here."""
        ...


async def chunks(
    begin: Callable[[], Awaitable[httpx2.Response]], reader: Reader, *, first_token_s: float, timeout_s: float
) -> AsyncGenerator[Chunk]:
    """Yield chunks as they come.

    Raises `StreamBroken` for whatever goes wrong once something of the answer was there, and other errors before.
    """
    began = time.monotonic()
    answer = await begin()
    stream = cast("Stream", answer.stream)
    stream.due_in(began + first_token_s - time.monotonic())
    failure: RunyardError | None = None
    started = False
    try:
        async for chunk in _read(answer, stream, reader):
            if chunk.text and not started:
                started = True
                stream.due_in(began + timeout_s - time.monotonic())
            yield chunk
    except RunyardError as error:
        failure = failures.broken() if started else error
    finally:
        await stream.aclose()
    if failure is not None:
        raise failures.bare(failure)


async def _read(answer: httpx2.Response, stream: Stream, reader: Reader) -> AsyncGenerator[Chunk]:
    sending.check_type(answer, "text/event-stream")
    events = Events()
    parts = aiter(stream)
    async for part in parts:
        for event in events.feed(part):
            for chunk in reader.read(event):
                yield chunk
        if reader.done:
            stream.due_in(_FAREWELL_S)
            with suppress(RunyardError):
                async for _ in parts:
                    pass
            return
    for event in events.rest():
        for chunk in reader.read(event):
            yield chunk
    if not reader.is_whole():
        raise failures.broken()
