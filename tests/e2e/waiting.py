"""Waiting for a condition, with an error that says what did not come about."""

import time
from collections.abc import Callable


def until[T](look: Callable[[], T | None], what: str, *, within_s: float = 30) -> T:
    """Return the first thing `look` finds; None, False and what is empty mean not yet. Raises `AssertionError`."""
    deadline = time.monotonic() + within_s
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {within_s:.0f} s")
        time.sleep(0.03)
