"""What a call may cost is held before it, and what it did cost is recorded and paid after it.

A call spends money outside the database, so it can't be one transaction: killed between the two, its holds expire. All
that an org's calls want at the same moment is one transaction (`booking.py`).
"""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from threading import Lock
from typing import cast
from uuid import UUID

from shared.inference import bookable, booking
from shared.inference.bookable import Closing as Closing
from shared.inference.bookable import Item, Later, Numbered, Outcome, Undoing
from shared.inference.bookable import Opened as Opened
from shared.inference.bookable import Opening as Opening
from shared.inference.calls import Call
from shared.kernel.batching import Batcher

# How long a call waits, at first and at most, before it looks whether calls of other workers have left room for it.
_FIRST_LOOK_S, _LAST_LOOK_S = 0.05, 0.5

_numbers = count()
_lock = Lock()
# Calls that wait for room, by org.
_waiting: dict[UUID, set[tuple[asyncio.AbstractEventLoop, asyncio.Event]]] = {}


def _work(lane: object, items: list[Item]) -> list[Outcome | Exception]:
    org_id = cast("UUID", lane)
    outcomes = booking.book(org_id, items)
    if any(not isinstance(item, Numbered) for item in items):
        _wake(org_id)
    return outcomes


_batcher: Batcher[Item, Outcome] = Batcher("accounting", _work)


async def open_call(opening: Opening) -> Opened:
    """Hold what the call may cost, or return the call that its source id has caused before.

    A call for which there is no room but for what other model calls hold waits for them, up to `wait_s`. Raises
    `BudgetExceeded` and `InsufficientCredits`.
    """
    number = next(_numbers)
    try:
        outcome = await _try(number, opening)
        if not isinstance(outcome, Later):
            return outcome
        return await _wait(number, opening)
    except asyncio.CancelledError:
        # Nobody knows whether it is held already.
        _batcher.put(opening.caller.org_id, Undoing(opening))
        raise


async def close_call(closing: Closing) -> Call:
    """Record the call, settle what it cost, and return it; or the first one of its source id, for nothing then.

    A call that didn't end well is recorded under a source id of its own: the one it came with can be tried again.
    It is recorded although whoever waits for it is cancelled.
    """
    return cast("Call", await _batcher.do(closing.caller.org_id, bookable.recordable(closing), needed=True))


async def _try(number: int, opening: Opening) -> Opened | Later:
    return cast("Opened | Later", await _batcher.do(opening.caller.org_id, Numbered(number, opening)))


async def _wait(number: int, opening: Opening) -> Opened:
    until = time.monotonic() + opening.wait_s
    look_s = _FIRST_LOOK_S
    with _woken(opening.caller.org_id) as woken:
        while True:
            # The first time at once: since it was refused, another may have closed.
            outcome = await _try(number, opening)
            if not isinstance(outcome, Later):
                return outcome
            left_s = until - time.monotonic()
            if left_s <= 0:
                raise outcome.refusal
            try:
                await asyncio.wait_for(woken.wait(), min(look_s, left_s))
            except TimeoutError:
                look_s = min(2 * look_s, _LAST_LOOK_S)
            woken.clear()


@contextmanager
def _woken(org_id: UUID) -> Iterator[asyncio.Event]:
    """Yield what is set whenever a call of this org has ended in this worker."""
    mine = (asyncio.get_running_loop(), asyncio.Event())
    with _lock:
        _waiting.setdefault(org_id, set()).add(mine)
    try:
        yield mine[1]
    finally:
        with _lock:
            _waiting[org_id].discard(mine)
            if not _waiting[org_id]:
                del _waiting[org_id]


def _wake(org_id: UUID) -> None:
    with _lock:
        waiting = list(_waiting.get(org_id, ()))
    for loop, woken in waiting:
        if not loop.is_closed():
            loop.call_soon_threadsafe(woken.set)
