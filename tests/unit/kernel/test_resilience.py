"""The breaker opens, lets one through, and closes; a retry stops at its last attempt."""

import pytest

from shared.kernel.resilience import Breaker, retry


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_breaker_opens_after_its_failures_in_a_row() -> None:
    breaker = Breaker(name="x", failures=2, reset_s=5, clock=Clock())
    breaker.failed()
    assert breaker.allows()
    breaker.succeeded()
    breaker.failed()
    assert breaker.allows()
    breaker.failed()
    assert not breaker.allows()


def test_an_open_breaker_lets_one_through_after_its_reset_time_and_closes_when_that_succeeds() -> None:
    clock = Clock()
    breaker = Breaker(name="x", failures=1, reset_s=5, clock=clock)
    breaker.failed()
    clock.now += 5
    assert breaker.allows()
    assert not breaker.allows()
    breaker.succeeded()
    assert breaker.allows()


def test_a_retry_gives_up_with_the_last_error() -> None:
    tries: list[float] = []

    def fail() -> None:
        tries.append(1)
        raise ConnectionError(len(tries))

    pauses: list[float] = []
    with pytest.raises(ConnectionError, match="3"):
        retry(fail, on=(ConnectionError,), attempts=3, first_delay_s=0.1, sleep=pauses.append)
    assert len(pauses) == 2
    assert pauses[0] <= 0.1
    assert pauses[1] <= 0.2


def test_a_retry_does_not_repeat_other_errors() -> None:
    tries: list[int] = []

    def fail() -> None:
        tries.append(1)
        raise ValueError

    with pytest.raises(ValueError):
        retry(fail, on=(ConnectionError,), sleep=lambda _: None)
    assert len(tries) == 1
