"""Follows a run's events over HTTP: an answer carries the events there are and ends, the next one goes on from it."""

import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import httpx

from local.errors import HomeError

# The server holds its answer back until there is an event, so that this is no busy waiting.
_PAUSE_S: Final = 0.1
ENDS: Final = frozenset({"run.succeeded", "run.failed", "run.cancelled"})


@dataclass(frozen=True, slots=True)
class Event:
    """One server-sent event; `id` is what the next request goes on from."""

    id: str
    name: str
    data: dict[str, Any]


def follow(client: httpx.Client, run_id: str, *, timeout_s: float) -> Iterator[Event]:
    """Yield the run's events until the one that ends it. Raises `HomeError` when that does not come in time."""
    last_id = ""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": last_id} if last_id else {})
        with client.stream("GET", f"/v1/runs/{run_id}/events", headers=headers) as answer:
            if answer.status_code == 204:  # all has been sent
                return
            if answer.status_code != 200:
                answer.read()
                raise HomeError(f"GET {answer.request.url.path} answered {answer.status_code}: {answer.text}")
            for event in parse(answer.iter_lines()):
                last_id = event.id or last_id
                yield event
                if event.name in ENDS:
                    return
        time.sleep(_PAUSE_S)
    raise HomeError(
        f"The run {run_id} did not end within {timeout_s:.0f} s.", hint="`make logs part=emulator` tells more."
    )


def parse(lines: Iterable[str]) -> Iterator[Event]:
    """Yield the events in a stream of lines (WHATWG HTML, 9.2.6); comments and unknown fields are left out."""
    fields: dict[str, str] = {}
    for line in lines:
        if not line:
            if "data" in fields:
                yield Event(fields.get("id", ""), fields.get("event", "message"), json.loads(fields["data"]))
            fields = {}
            continue
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        fields[name] = f"{fields[name]}\n{value}" if name == "data" and name in fields else value
