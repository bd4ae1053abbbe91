"""Server-sent events as providers send them: the data of each, and never more than a megabyte at once."""

from typing import Final

from shared.inference.providers.failures import malformed

LARGEST_EVENT: Final = 2**20


class Events:
    """Takes a stream's bytes as they come and gives each event's data once it is whole.

    Events' names are left out: what matters stands in the data too. Source of the format:
    https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation
    """

    def __init__(self) -> None:
        self._pending = b""
        self._data: list[bytes] = []

    def feed(self, part: bytes) -> list[bytes]:
        """Return the data of the events that end in this part; raise `ProviderAnsweredWrongly` for one too large."""
        *lines, self._pending = (self._pending + part).split(b"\n")
        found: list[bytes] = []
        for line in lines:
            if line.startswith(b"data:"):
                self._data.append(line[5:].strip())
            elif self._data and line in (b"", b"\r"):
                found += self._take()
        if len(self._pending) + sum(map(len, self._data)) > LARGEST_EVENT:
            raise malformed(f"an event is larger than {LARGEST_EVENT} bytes")
        return found

    def rest(self) -> list[bytes]:
        """Return the data of an event whose end is missing, when the stream has ended."""
        return self._take() if self._data else []

    def _take(self) -> list[bytes]:
        data, self._data = b"\n".join(self._data), []
        return [data]
