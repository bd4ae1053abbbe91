"""Waiting for what comes about sooner or later, and asking whether something takes no longer than it may."""

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


def takes_less_than(seconds: float, measured: Callable[[], float], *, tries: int = 8) -> bool:
    """Return whether one of several tries took less: a busy machine slows some of them, but not the fastest."""
    return any(measured() < seconds for _ in range(tries))
