"""Time, always UTC and always from here, so that a test can hold it still."""

import time
from datetime import UTC, datetime


def now() -> datetime:
    """Return the present moment as an aware UTC datetime."""
    return datetime.now(UTC)


def monotonic_ms() -> int:
    """Return milliseconds of a clock that never goes back: for durations only."""
    return time.monotonic_ns() // 1_000_000


def elapsed_ms(since: datetime, until: datetime) -> int:
    """Return whole milliseconds between two moments, never negative."""
    return max(0, round((until - since).total_seconds() * 1000))
