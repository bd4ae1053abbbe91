"""The health of models at providers: seen here, shared through Redis, and kept by each worker alone while it is gone.

What others saw comes with each request's preflight. A failure, and what closes a breaker, is written at once; the
figures of calls that went well, at most once a second.
"""

import asyncio
from collections.abc import Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Lock
from typing import Final

from redis import Redis
from redis.client import Pipeline

from shared.inference.breaker import KEPT_MS, Rule, Seen, State, after
from shared.inference.policy import BreakerState, Fault, Health
from shared.kernel import cache, clock
from shared.kernel.telemetry import logger

_PREFIX: Final = "inference:health:"
_FLUSH_MS: Final = 1_000
_MOST_KEPT: Final = 2_000
_MOST_SAMPLES: Final = 8
# By these a provider fails. With all others it answers, and is well: it finds fault with the request or the account.
_FAILURES: Final = frozenset({Fault.SERVER_ERROR, Fault.TIMEOUT})

_NEW: Final = State()
_UNKNOWN: Final = Health()


def redis_key(key: str) -> str:
    """Return where the state of this `Target.key` is."""
    return f"{_PREFIX}{key}"


@dataclass(slots=True)
class _Record:
    """What this worker knows of one target: `state` is as it was last shared, `view` includes what was seen since."""

    state: State = _NEW
    view: State = _NEW
    raw: bytes | None = None
    unwritten: list[Seen] = field(default_factory=list)
    writing: bool = False
    flushed_at: int = 0
    probed_at: int = 0
    health: Health = _UNKNOWN
    health_until: int = 0

    def look_anew(self, rule: Rule) -> None:
        self.view = after(self.state, self.unwritten, rule)
        self.health_until = 0


class Board:
    """All targets that this worker has to do with, by `Target.key`. It may be used from any thread and event loop."""

    def __init__(self, *, rule: Rule = Rule(), probe_ms: int = 1_000) -> None:
        self._rule = rule
        self._probe_ms = probe_ms
        self._lock = Lock()
        self._records: dict[str, _Record] = {}
        # One thread: a worker's own writes never get into each other's way.
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="health")

    def absorb(self, states: Mapping[str, bytes | None]) -> None:
        """Take in what the workers share, by `Target.key`, as it was read from Redis. None tells nothing."""
        for key, raw in states.items():
            if raw is None:
                continue
            record = self._record(key)
            if raw == record.raw:
                continue
            with self._lock:
                record.raw = raw
                state = State.decode(raw)
                # It was read before what is known here was written; or a write that is under way will tell.
                if state is None or state.at <= record.state.at or record.writing:
                    continue
                record.state = state
                record.look_anew(self._rule)

    def health(self, key: str) -> Health:
        """Return how it does. Figures, unlike the breaker, may lag by a second."""
        record = self._records.get(key)
        if record is None:
            return _UNKNOWN
        now = _now_ms()
        if now >= record.health_until:
            record.health = record.view.health(now)
            # How long it stays open changes with every look.
            record.health_until = now if record.view.open_until else now + _FLUSH_MS
        return record.health

    async def admits(self, key: str) -> bool:
        """Return whether it may be asked now. One call at a time finds out whether it is back."""
        record = self._records.get(key)
        if record is None or not record.view.open_until:
            return True
        now = _now_ms()
        with self._lock:
            if record.view.breaker(now) is BreakerState.OPEN or now - record.probed_at < self._probe_ms:
                return False
            record.probed_at = now
        lead = await asyncio.to_thread(cache.attempt, lambda client: self._leads(client, key))
        # Without Redis each worker tries for itself.
        return lead is None or lead

    async def succeeded(self, key: str, *, latency_ms: int | None = None, first_token_ms: int | None = None) -> None:
        """Note an answer. Waits for Redis only if this ends a row of failures."""
        record = self._record(key)
        now = _now_ms()
        with self._lock:
            seen = _last(record, now)
            seen.counted += 1
            _sample(seen.latencies, latency_ms)
            _sample(seen.first_tokens, first_token_ms)
            ends_row = record.view.in_a_row > 0
            if ends_row:
                record.look_anew(self._rule)
            elif now - record.flushed_at < _FLUSH_MS:
                return
            record.flushed_at = now
        written = self._writer.submit(self._write, key, record)
        if ends_row:
            await asyncio.shield(asyncio.wrap_future(written))
        else:
            written.add_done_callback(_report)

    async def failed(self, key: str, fault: Fault | None) -> None:
        """Note an error. One that is no fault of the provider's shows that it is there."""
        record = self._record(key)
        now = _now_ms()
        bad = fault in _FAILURES
        with self._lock:
            if not bad and not record.view.in_a_row:
                return
            record.unwritten.append(Seen(not bad, now, counted=int(bad)))
            record.look_anew(self._rule)
            record.flushed_at = now
        await asyncio.shield(asyncio.wrap_future(self._writer.submit(self._write, key, record)))

    async def read(self, keys: Iterable[str]) -> dict[str, Health]:
        """Return how these do, read from Redis now: for who has no preflight."""
        wanted = list(keys)
        if wanted:
            names = [redis_key(key) for key in wanted]
            found = await asyncio.to_thread(cache.attempt, lambda client: client.mget(names))
            self.absorb(dict(zip(wanted, found or (), strict=False)))
        return {key: self.health(key) for key in wanted}

    def forget(self) -> None:
        """Know nothing, as a new worker does."""
        with self._lock:
            self._records.clear()

    def _record(self, key: str) -> _Record:
        found = self._records.get(key)
        if found is None:
            with self._lock:
                if len(self._records) >= _MOST_KEPT:
                    # Any tenant can name models of its own provider: the longest known goes.
                    del self._records[next(iter(self._records))]
                found = self._records.setdefault(key, _Record())
        return found

    def _leads(self, client: Redis, key: str) -> bool:
        return bool(client.set(f"{redis_key(key)}:probe", b"1", nx=True, px=self._probe_ms))

    def _write(self, key: str, record: _Record) -> None:
        with self._lock:
            seen, record.unwritten = record.unwritten, []
            if not seen:
                return
            record.writing, known = True, record.state
        shared: list[State] = []

        def change(pipe: Pipeline) -> None:
            raw = pipe.get(redis_key(key))
            found = State.decode(raw) if isinstance(raw, bytes) else None
            shared[:] = [after(known if found is None or found.at < known.at else found, seen, self._rule)]
            pipe.multi()
            pipe.set(redis_key(key), shared[0].encode(), px=KEPT_MS)

        reached = None
        try:
            reached = cache.attempt(lambda client: client.transaction(change, redis_key(key)))
        finally:
            with self._lock:
                record.state = after(known, seen, self._rule) if reached is None else shared[0]
                record.writing = False
                record.look_anew(self._rule)


def _last(record: _Record, now: int) -> Seen:
    """Return where to count one more good call: calls in a row that went well are one."""
    if record.unwritten and record.unwritten[-1].good:
        seen = record.unwritten[-1]
        seen.at = now
    else:
        seen = Seen(good=True, at=now, counted=0)
        record.unwritten.append(seen)
    return seen


def _sample(samples: list[int], value: int | None) -> None:
    if value is not None:
        if len(samples) >= _MOST_SAMPLES:
            del samples[0]
        samples.append(value)


def _report(written: "Future[None]") -> None:
    if error := written.exception():
        logger.error("health not written", exc_info=error)


def _now_ms() -> int:
    return int(clock.now().timestamp() * 1000)


board = Board()
