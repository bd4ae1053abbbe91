"""Retry with back-off and a circuit breaker: small, in process, without threads."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field


def retry[T](
    action: Callable[[], T],
    *,
    on: tuple[type[Exception], ...],
    attempts: int = 3,
    first_delay_s: float = 0.1,
    sleep: Callable[[float], None] = time.sleep,
) -> T:
    """Return what `action` returns, trying again on the given errors with full-jitter exponential back-off.

    The last attempt's error is raised as it is. Only for actions that may run twice.
    Source of the formula: AWS Architecture Blog, "Exponential Backoff And Jitter" (full jitter).
    """
    for attempt in range(attempts - 1):
        try:
            return action()
        except on:
            sleep(random.uniform(0, first_delay_s * 2**attempt))  # noqa: S311 - jitter, not a secret
    return action()


@dataclass(slots=True)
class Breaker:
    """Stops calling what keeps failing: opens after `failures` in a row, lets one call through after `reset_s`."""

    name: str
    failures: int
    reset_s: float
    clock: Callable[[], float] = time.monotonic
    _failed: int = field(default=0, init=False)
    _opened_at: float | None = field(default=None, init=False)

    def allows(self) -> bool:
        """Return whether a call may be made now; in half-open state exactly one caller gets True per `reset_s`."""
        if self._opened_at is None:
            return True
        if self.clock() - self._opened_at < self.reset_s:
            return False
        self._opened_at = self.clock()
        return True

    def succeeded(self) -> None:
        self._failed = 0
        self._opened_at = None

    def failed(self) -> None:
        self._failed += 1
        if self._failed >= self.failures:
            self._opened_at = self.clock()
