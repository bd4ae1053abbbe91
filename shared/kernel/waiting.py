"""Waiting for something to happen, within what API Gateway allows one answer to take."""

import time
from collections.abc import Callable
from typing import Annotated

from fastapi import Query

# API Gateway's HTTP API gives up on its function after 30 s.
MAX_WAIT_S = 25
_FIRST_PAUSE_S = 0.02
_LONGEST_PAUSE_S = 0.25

Wait = Annotated[
    int, Query(ge=0, le=30, description=f"Seconds to wait for what was asked to be there; {MAX_WAIT_S} at most count.")
]


def wait_for[T](look: Callable[[], T], enough: Callable[[T], bool], *, seconds: float) -> T:
    """Look until it is enough or the time is over, and return what was seen last.

    Postgres is asked, not told: what is there is durable, and nothing is missed when Redis is gone.
    """
    until = time.monotonic() + min(seconds, MAX_WAIT_S)
    pause = _FIRST_PAUSE_S
    while True:
        seen = look()
        left = until - time.monotonic()
        if enough(seen) or left <= 0:
            return seen
        time.sleep(min(pause, left))
        pause = min(pause * 1.5, _LONGEST_PAUSE_S)
