"""Single flight: of equal requests at the same time one leads and is paid for; the others follow what it gets.

Who leads holds a lock in Redis, which every worker sees; within a worker the answer is handed over in memory. Without
Redis each worker has a leader of its own.
"""

import asyncio
import math
import secrets
import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice

from shared.kernel import clock, pipelining
from shared.kernel.pipelining import Command, Script

# As long as a call may take: a leader that died is waited for no longer.
LEAD_S = 60.0
STAMP_BYTES = 14
_FIRST_PAUSE_S = 0.02
_LONGEST_PAUSE_S = 0.2

_LAND = Script("""
redis.call("SET", KEYS[1], ARGV[1], "EX", ARGV[2])
if redis.call("GET", KEYS[2]) == ARGV[3] then redis.call("DEL", KEYS[2]) end
""")
_GIVE_UP = Script("""
if redis.call("GET", KEYS[1]) == ARGV[1] then redis.call("DEL", KEYS[1]) end
""")


@dataclass(slots=True, eq=False)
class _Flight:
    """A flight whose leader is in this worker; `landed` holds the entry, or None when there won't be one."""

    token: str
    until: float
    landed: Future[bytes | None] = field(default_factory=Future)

    def land(self, entry: bytes | None) -> None:
        if not self.landed.done():
            self.landed.set_result(entry)


_flights: dict[str, _Flight] = {}
_changing = threading.Lock()


def stamp(stored_at: datetime) -> bytes:
    """Return what an entry begins with: when it was stored, so that Redis can tell its age."""
    return b"%0*d" % (STAMP_BYTES, round(stored_at.timestamp() * 1000))


def stamped_ms(entry: bytes) -> int:
    """Return when an entry was stored, in ms since 1970; raise `ValueError`."""
    return int(entry[:STAMP_BYTES])


def age_s(entry: bytes) -> float:
    """Return how old an entry is; infinitely, when it can't be read."""
    try:
        return max(0.0, clock.now().timestamp() - stamped_ms(entry) / 1000)
    except ValueError:
        return math.inf


def lock_key(cache_key: str) -> str:
    return f"{cache_key}:lead"


def new_token() -> str:
    return secrets.token_hex(8)


def leads_here(cache_key: str) -> bool:
    """Return whether a leader of this request is in this worker."""
    flight = _flights.get(cache_key)
    return flight is not None and time.monotonic() < flight.until


def took(cache_key: str, token: str, lead_s: float) -> None:
    """Note that a caller of this worker leads, as Redis says."""
    now = time.monotonic()
    with _changing:
        # The first are the oldest: those that nobody ended don't pile up.
        ended = [_flights.pop(name) for name in [*islice(_flights, 2)] if _flights[name].until <= now]
        if (before := _flights.pop(cache_key, None)) is not None:
            ended.append(before)
        _flights[cache_key] = _Flight(token, now + lead_s)
    for flight in ended:
        flight.land(None)


def take_here(cache_key: str, token: str, lead_s: float) -> bool:
    """Lead among this worker's callers, as nobody can tell about the others'; return whether this one does."""
    if leads_here(cache_key):
        return False
    took(cache_key, token, lead_s)
    return True


async def try_lead(cache_key: str, *, lead_s: float = LEAD_S) -> bool:
    """Return whether the caller leads from now on: then `put` or `give_up` must end it."""
    if leads_here(cache_key):
        return False
    token = new_token()
    replies = await pipelining.do(Command(("SET", lock_key(cache_key), token, "PX", round(lead_s * 1000), "NX")))
    if replies is None:
        return take_here(cache_key, token, lead_s)
    if not replies[0]:
        return False
    took(cache_key, token, lead_s)
    return True


async def follow(cache_key: str, *, until: float) -> bytes | None:
    """Return what the leader got, waiting for it until that moment of `time.monotonic`.

    None: it gave up, died or is too slow. One of those who followed leads next: the one whose `try_lead` is True.
    """
    flight = _flights.get(cache_key)
    if flight is not None and (left := min(until, flight.until) - time.monotonic()) > 0:
        await asyncio.wait([asyncio.wrap_future(flight.landed)], timeout=left)
        return flight.landed.result() if flight.landed.done() else None
    pause_s = _FIRST_PAUSE_S
    while (left := until - time.monotonic()) > 0:
        replies = await pipelining.do(Command(("EXISTS", lock_key(cache_key))))
        if replies is None:
            return None
        if not replies[0]:
            return await _entry(cache_key)
        await asyncio.sleep(min(pause_s, left))
        pause_s = min(pause_s * 1.5, _LONGEST_PAUSE_S)
    return None


async def land(cache_key: str, entry: bytes, *, keep_s: int) -> None:
    """Give the entry to those who follow, and keep it for this long."""
    flight = _flights.get(cache_key)
    token = ""
    if flight is not None:
        token = flight.token
        flight.land(entry)
    try:
        await pipelining.do(_LAND.command([cache_key, lock_key(cache_key)], [entry, keep_s, token]), needed=True)
    finally:
        # Only now: whoever looks meanwhile finds the lock in Redis, and here who holds it.
        if flight is not None:
            _leave(cache_key, flight)


async def give_up(cache_key: str) -> None:
    """Let another of those who follow lead; nothing happens where nobody leads in this worker."""
    drop(cache_key)


def drop(cache_key: str) -> None:
    """Do as `give_up` does. Who tries to lead next asks Redis after this, as all of a worker ask in turn."""
    if (flight := _flights.get(cache_key)) is not None:
        pipelining.put(_GIVE_UP.command([lock_key(cache_key)], [flight.token]))
        _leave(cache_key, flight)


async def _entry(cache_key: str) -> bytes | None:
    replies = await pipelining.do(Command(("GET", cache_key)))
    return replies[0] if replies else None


def _leave(cache_key: str, flight: _Flight) -> None:
    with _changing:
        if _flights.get(cache_key) is flight:
            del _flights[cache_key]
    flight.land(None)
