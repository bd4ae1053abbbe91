"""One request's way through the gateway: what it may use, what it holds, and how it is recorded in the end."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Self
from uuid import UUID

from shared.inference import accounting, caching, configuring, costing, health, preflight, redaction, reporting, targets
from shared.inference.accounting import Closing, Opened, Opening
from shared.inference.asking import Ask, EmbeddingAsk
from shared.inference.caching import Found
from shared.inference.calls import CacheStatus, Call, Operation, Outcome, Tokens
from shared.inference.config import OrgConfig, Target
from shared.inference.errors import ModelNotFound
from shared.inference.preflight import Asked, Looked
from shared.inference.targets import Resolved
from shared.inference.trace import Trace
from shared.kernel import clock, ids
from shared.kernel.errors import RunyardError, Unavailable
from shared.kernel.telemetry import logger

# A hold outlives its call by this much, so that only a dead worker's is ever released by the clock.
_HOLD_AFTER_TIMEOUT = timedelta(minutes=5)
# How long a call waits for others' holds to be settled before it is refused for want of room.
_WAIT_FOR_ROOM_S = 20.0
_NOTHING = Tokens(input=0, cached=0, output=0)
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 15.0

# Closings that wait for Postgres: the loop itself keeps only weak references to tasks.
_closings: set[asyncio.Task[None]] = set()


@dataclass(slots=True, kw_only=True)
class Passage:
    """Made by `begin`; `opened` is there once the worst case is held."""

    ask: Ask | EmbeddingAsk
    trace: Trace
    operation: Operation
    config: OrgConfig
    resolved: Resolved
    until: float
    call_id: UUID = field(default_factory=ids.new)
    at: datetime = field(default_factory=clock.now)
    opened: Opened | None = None
    most_microusd: int = 0
    _opened_ms: int = 0

    @classmethod
    async def begin(cls, ask: Ask | EmbeddingAsk, trace: Trace, *, model: str | None, operation: Operation) -> Self:
        """Find out what the model's name stands for; raise `ModelNotFound`."""
        config = await configuring.of(ask.caller)
        try:
            resolved = targets.resolve(config, model, operation=operation)
        except ModelNotFound:
            # It may have been set up a moment ago, in another worker.
            config = await configuring.anew(ask.caller)
            resolved = targets.resolve(config, model, operation=operation)
        until = time.monotonic() + ask.timeout_s
        return cls(ask=ask, trace=trace, operation=operation, config=config, resolved=resolved, until=until)

    async def look(
        self, *, cache_key: str | None = None, read: bool = False, lead: bool = False, fresh_s: float | None = None
    ) -> Looked:
        """Count the request, and learn what the cache and the providers' health say, in one round trip.

        Raises `RateLimited`, and `RateLimiterUnavailable` for what can't be counted.
        """
        watch = {health.redis_key(target.key): target.key for target in self.resolved.targets.values()}
        looked = await preflight.look(
            Asked(
                caller=self.ask.caller,
                limited=self.ask.limited,
                cache_key=cache_key,
                read=read,
                lead=lead,
                watch=tuple(watch),
                fresh_s=fresh_s,
                lead_s=self.ask.timeout_s,
            )
        )
        self.trace.counted = looked.counted
        if self.ask.limited:
            try:
                looked.counted.admit(spends=True)
            except RunyardError:
                if looked.leads and cache_key is not None:
                    await caching.give_up(cache_key)
                raise
        health.board.absorb({watch[name]: state for name, state in looked.states.items()})
        return looked

    async def hold(self, most_microusd: int) -> Call | None:
        """Hold the worst case; return the recorded call when this source id has one, and hold nothing then.

        Raises `BudgetExceeded` and `InsufficientCredits`.
        """
        ask = self.ask
        left_s = max(0.0, self.until - time.monotonic())
        self.most_microusd = most_microusd
        self.opened = await accounting.open_call(
            Opening(
                caller=ask.caller,
                call_id=self.call_id,
                source_id=ask.source_id,
                repeatable=ask.repeatable,
                most_microusd=most_microusd,
                pays=ask.max_cost_microusd is None,
                run_id=ask.run_id,
                expires_at=clock.now() + timedelta(seconds=left_s) + _HOLD_AFTER_TIMEOUT,
                wait_s=min(_WAIT_FOR_ROOM_S, left_s),
            )
        )
        self._opened_ms = clock.monotonic_ms()
        return self.opened.known

    async def answered(
        self,
        target: Target,
        tokens: Tokens,
        answer: Mapping[str, Any],
        *,
        outcome: Outcome = Outcome.OK,
        cache: CacheStatus = CacheStatus.OFF,
        latency_ms: int,
        first_token_ms: int | None = None,
        estimated: bool = False,
        streamed: bool = False,
        error_code: str | None = None,
        finish_reason: str | None = None,
    ) -> Call:
        """Record what was answered, settle its cost, and return the call: the first one of its source id."""
        costs = costing.cost_of(target.price, tokens, most_microusd=self._bound)
        call = self._call(
            target,
            tokens,
            answer,
            cost_microusd=sum(costs),
            latency_ms=latency_ms,
            first_token_ms=first_token_ms,
            cache=cache,
            outcome=outcome,
            estimated=estimated,
            streamed=streamed,
            error_code=error_code,
            finish_reason=finish_reason,
        )
        recorded = await self._close(call, costing.events_of(call, costs, target.price), counted=True)
        self.trace.cost_microusd = recorded.cost_microusd
        reporting.report(recorded, own_provider=target.account.own)
        return recorded

    async def came_from_cache(self, found: Found, status: CacheStatus, *, streamed: bool = False) -> Call:
        """Record an answer that cost nothing."""
        entry = found.entry
        self.trace.cache, self.trace.provider = status, entry.provider
        call = self._call(None, _NOTHING, entry.answer, cache=status, streamed=streamed)
        call = replace(call, model=entry.model, provider=entry.provider)
        recorded = await self._close(call, (), counted=True)
        reporting.report(recorded, own_provider=False)
        return recorded

    async def failed(self, error: BaseException, target: Target | None, *, streamed: bool = False) -> None:
        """Give back what is held and record the call as one that failed, or that its caller gave up."""
        call = self._call(
            target,
            _NOTHING,
            {},
            outcome=Outcome.FAILED if isinstance(error, RunyardError) else Outcome.CANCELLED,
            error_code=error.code if isinstance(error, RunyardError) else None,
            latency_ms=self.trace.provider_ms,
            streamed=streamed,
        )
        await self._close(call, (), counted=False)
        reporting.report(call, own_provider=target is not None and target.account.own)

    @property
    def _bound(self) -> int:
        given = self.ask.max_cost_microusd
        return self.most_microusd if given is None else given

    def _call(
        self,
        target: Target | None,
        tokens: Tokens,
        answer: Mapping[str, Any],
        *,
        cost_microusd: int = 0,
        latency_ms: int = 0,
        **known: Any,
    ) -> Call:
        ask, settings = self.ask, self.config.settings
        # What is repeated must be given again word for word; what is only kept to be looked at is redacted.
        kept: Mapping[str, Any] = {}
        if ask.repeatable:
            kept = answer
        elif settings.record_content and self.operation is Operation.CHAT:
            kept = redaction.redact(answer, settings.redact)
        prompt = redaction.redact(_prompt(ask), settings.redact) if settings.record_content else None
        asked_ms = clock.monotonic_ms() - self.trace.provider_ms
        return Call(
            id=self.call_id,
            source_id=ask.source_id,
            operation=self.operation,
            model=self.resolved.route.name if target is None else target.shown_as,
            tokens=tokens,
            cost_microusd=cost_microusd,
            latency_ms=latency_ms,
            answer=kept,
            created_at=self.at,
            request_id=ask.caller.request_id,
            provider="" if target is None else target.account.name,
            route=self.resolved.route.name if self.resolved.named else "",
            attempts=max(1, self.trace.attempts),
            queue_ms=max(0, (self._opened_ms or asked_ms) - ask.began_ms) if ask.began_ms else 0,
            run_id=ask.run_id,
            attribution=ask.caller.attribution,
            prompt=prompt,
            **known,
        )

    async def _close(self, call: Call, events: Sequence[Any], *, counted: bool) -> Call:
        closing = Closing(
            caller=self.ask.caller,
            call=call,
            events=events,
            opened=self.opened,
            request_counted=counted and self.ask.limited,
        )
        # Whoever stops waiting doesn't stop the closing: what was produced is paid, and what was held is given back.
        self.trace.request_counted = closing.request_counted
        try:
            return await accounting.close_call(closing)
        except Unavailable:
            # What was read can't be taken back, so it is recorded once that is possible. A whole answer isn't given.
            if call.streamed or call.outcome is not Outcome.OK:
                task = asyncio.ensure_future(_close_later(closing))
                _closings.add(task)
                task.add_done_callback(_closings.discard)
            raise


async def _close_later(closing: Closing) -> None:
    """Close a call for which Postgres was gone, for as long as what it holds is there."""
    until, pause_s = time.monotonic() + _HOLD_AFTER_TIMEOUT.total_seconds(), _FIRST_PAUSE_S
    while time.monotonic() + pause_s < until:
        await asyncio.sleep(pause_s)
        try:
            await accounting.close_call(closing)
        except Unavailable:
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
        else:
            return
    logger.error("call not recorded", extra={"source_id": closing.call.source_id})


def _prompt(ask: Ask | EmbeddingAsk) -> Mapping[str, Any]:
    if isinstance(ask, EmbeddingAsk):
        return {"input": list(ask.texts)}
    return {"messages": list(ask.request.messages), "tools": list(ask.request.tools), **ask.request.options}
