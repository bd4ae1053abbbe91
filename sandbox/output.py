"""Collects what commands print in bounded memory: the beginning is kept, the rest read and forgotten."""

import asyncio
from collections import deque
from typing import cast


class OutputBudget:
    """Bytes of output that all commands together may keep. Finished commands give way, oldest first."""

    def __init__(self, limit_bytes: int) -> None:
        self._free = limit_bytes
        self._finished: deque[OutputStream] = deque()

    def take(self, wanted: int) -> int:
        """Reserve up to `wanted` bytes and return how many were granted."""
        while self._free < wanted and self._finished:
            self._free += self._finished.popleft().discard()
        granted = min(wanted, self._free)
        self._free -= granted
        return granted

    def retire(self, stream: "OutputStream") -> None:
        """Allow a finished stream's bytes to be discarded when others need the room."""
        if stream.kept_bytes:
            self._finished.append(stream)


class OutputStream(asyncio.Protocol):
    """The reading end of a command's stdout or stderr. Never stops reading: a full pipe would block it."""

    def __init__(self, limit_bytes: int, budget: OutputBudget) -> None:
        self._limit = limit_bytes
        self._budget = budget
        self._kept = bytearray()
        self._transport: asyncio.ReadTransport | None = None
        self.closed = asyncio.Event()
        self.truncated = False
        self.received_bytes = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.ReadTransport", transport)

    def data_received(self, data: bytes) -> None:
        self.received_bytes += len(data)
        wanted = min(len(data), self._limit - len(self._kept))
        granted = self._budget.take(wanted) if wanted else 0
        if granted:
            self._kept += data[:granted]
        if granted < len(data):
            self.truncated = True
            # What is kept is a beginning without gaps, whatever room there is later.
            self._limit = len(self._kept)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self.closed.set()

    def close(self) -> None:
        """Stop reading, although a process left in the background may still hold the other end."""
        if self._transport is not None:
            self._transport.close()
        self.closed.set()

    @property
    def kept_bytes(self) -> int:
        return len(self._kept)

    def text(self) -> str:
        """Return what was kept as text; bytes that are no UTF-8 become U+FFFD."""
        return self._kept.decode(errors="replace")

    def discard(self) -> int:
        """Forget the output, say that it was truncated, and return the number of bytes freed."""
        freed = len(self._kept)
        self._kept = bytearray()
        self._limit = 0
        self.truncated = True
        return freed
