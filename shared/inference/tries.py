"""The requests that one call takes: which target is next, how long it has, and when the same one is asked again."""

import asyncio
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from shared.inference import health, providers
from shared.inference.answers import Provider
from shared.inference.config import Target
from shared.inference.errors import (
    ContextTooLong,
    ModelNotFound,
    NotServed,
    ProviderMisconfigured,
    ProviderRateLimited,
    ProviderTimedOut,
    ProviderUnreachable,
)
from shared.inference.policy import Fault, Route
from shared.inference.providers import keys
from shared.inference.routing import suspended
from shared.inference.trace import Trace
from shared.kernel.errors import ProviderFailed, RunyardError
from shared.kernel.telemetry import logger

# A provider that was asked for less isn't to blame for being late; a tenant's route may hurry it by more than that.
_FAIR_S: Final = 5.0
_FAIR_OF_ROUTE_S: Final = 20.0
# Within this of its limit, an attempt ended by it.
_CLOSE_S: Final = 0.1
_LONGEST_WAIT_S: Final = 2
_FIRST_PAUSE_S: Final = 0.1

# One request to a provider: whom, with which key, within how many seconds.
type Request[T] = Callable[[Provider, Target, str, float], Awaitable[T]]


def fault_of(error: RunyardError) -> Fault | None:
    """Return which kind of fault an error of a provider is; None when the request is to blame."""
    match error:
        case ContextTooLong():
            return Fault.CONTEXT_LENGTH
        case ProviderRateLimited():
            return Fault.RATE_LIMITED
        case ProviderTimedOut():
            return Fault.TIMEOUT
        case ProviderMisconfigured() | ModelNotFound():
            return Fault.MISCONFIGURED
        case ProviderFailed():
            return Fault.SERVER_ERROR
        case _:
            return None


@dataclass(slots=True, kw_only=True)
class Tries:
    """The requests of one call. `target` is the one asked last, `latency_ms` how long that took."""

    route: Route
    until: float
    trace: Trace
    waiting: deque[Target]
    streams: bool = False
    count: int = 0
    latency_ms: int = 0
    _again: bool = False
    _failure: RunyardError | None = None

    @property
    def target(self) -> Target:
        return self.waiting[0]

    async def until_answered[T](self, request: Request[T]) -> T:
        while self.waiting:
            if not await health.board.admits(self.target.key):
                self._failure = self._failure or suspended(health.board.health(self.target.key).retry_in_s)
                self.waiting.popleft()
                continue
            limit_s = self._limit_s()
            if limit_s <= 0:
                break
            try:
                return await self._once(request, limit_s)
            except RunyardError as error:
                self._failure = error
                await note_failure(self.target, error, asked_s=self.latency_ms / 1000)
                pause_s = self._pause_before_next(error)
            if pause_s:
                await asyncio.sleep(pause_s)
        raise self._failure or _late()

    async def _once[T](self, request: Request[T], limit_s: float) -> T:
        account = self.target.account
        provider, key = providers.of(account.kind), await keys.read(account.secret_arn)
        self.count += 1
        self.trace.attempts += 1
        self.trace.provider = account.name
        began = time.monotonic()
        try:
            # Providers keep to their limit themselves, as far as they can: an answer may come in drops.
            async with asyncio.timeout(limit_s) as timer:
                return await request(provider, self.target, key, limit_s)
        except TimeoutError:
            if not timer.expired():
                raise
        finally:
            self.latency_ms = round((time.monotonic() - began) * 1000)
            self.trace.provider_ms += self.latency_ms
        raise _late()

    def _limit_s(self) -> float:
        """Return how long the next request may take: its share of what is left where others may be asked after it."""
        left_s = self.until - time.monotonic()
        if Fault.TIMEOUT in self.route.fall_back_on:
            left_s /= max(1, min(len(self.waiting), self.route.max_attempts - self.count))
        return at_most(left_s, self.target.first_token_s if self.streams else None, self.target.timeout_s)

    def _pause_before_next(self, error: RunyardError) -> float:
        """Return seconds until the next request, to the next target or to the same once more; else raise the error."""
        fault = fault_of(error)
        if self.count < self.route.max_attempts:
            # What one provider can't take, another may.
            if len(self.waiting) > 1 and (fault in self.route.fall_back_on or isinstance(error, NotServed)):
                self.waiting.popleft()
                self._again = False
                return 0.0
            pause_s = None if self._again else _pause_before_same(error)
            if pause_s is not None and time.monotonic() + pause_s < self.until:
                self._again = True
                return pause_s
        raise error


async def note_failure(target: Target, error: RunyardError, *, asked_s: float) -> None:
    """Tell a target's health and the log of an error that came after so many seconds."""
    fault = fault_of(error)
    extra = {"model": target.model, "provider": target.account.name, "code": error.code}
    logger.warning("provider failed", extra=extra)
    late = fault is Fault.TIMEOUT or (target.timeout_s is not None and asked_s >= target.timeout_s - _CLOSE_S)
    if not late or target.account.own or asked_s >= _fair_s(target):
        await health.board.failed(target.key, fault)


def _fair_s(target: Target) -> float:
    # One tenant's haste must not suspend a provider for all; its own provider is its own affair.
    hurried = target.timeout_s is not None or target.first_token_s is not None
    return _FAIR_OF_ROUTE_S if hurried else _FAIR_S


def _pause_before_same(error: RunyardError) -> float | None:
    match error:
        case ProviderUnreachable():
            # Full jitter, as in kernel/resilience.py.
            return random.uniform(0, _FIRST_PAUSE_S)  # noqa: S311 - jitter, not a secret
        case ProviderRateLimited(retry_after_s=int(seconds)) if seconds <= _LONGEST_WAIT_S:
            return seconds
        case _:
            return None


def at_most(limit_s: float, *others: float | None) -> float:
    """Return the least of these limits; None is none."""
    return min([limit_s, *(other for other in others if other is not None)])


def _late() -> ProviderTimedOut:
    return ProviderTimedOut("The model provider didn't answer in time; try again.")
