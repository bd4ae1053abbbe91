"""Batches: what many callers want done at the same time is done together, by threads, and each gets its own answer.

Nobody waits for a batch to fill: a lane's first item goes at once, and what comes meanwhile goes together after it.
"""

import asyncio
from collections import defaultdict, deque
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Lock


@dataclass(slots=True)
class _Waiting[I, O]:
    """An item and who waits for its outcome; nobody does where `future` is None."""

    item: I
    future: asyncio.Future[O] | None
    needed: bool

    @property
    def given_up(self) -> bool:
        return not self.needed and self.future is not None and self.future.cancelled()


class Batcher[I, O]:
    """Does items lane by lane: one batch of a lane at a time, several lanes at once, each lane in order of arrival.

    `work(lane, items)` runs in a thread and returns an outcome for each item, in their order; an exception among them
    is raised to that item's caller. If it raises itself, each item is tried again alone, so that one can't fail the
    others. Callers may be on any number of event loops.
    """

    def __init__(
        self,
        name: str,
        work: Callable[[Hashable, list[I]], Sequence[O | Exception]],
        *,
        at_most: int = 64,
        threads: int = 4,
    ) -> None:
        self._name = name
        self._work = work
        self._at_most = at_most
        self._threads = threads
        self._pool: ThreadPoolExecutor | None = None
        self._lock = Lock()
        # What waits, by lane; a lane is here while it waits or a batch of it is under way.
        self._lanes: dict[Hashable, deque[_Waiting[I, O]]] = {}
        # Lanes that no thread has taken up yet, each once.
        self._ready: deque[Hashable] = deque()
        self._busy = 0

    async def do(self, lane: Hashable, item: I, *, needed: bool = False) -> O:
        """Return the item's outcome, or raise it.

        An item whose caller was cancelled is left out unless its batch has begun, or it is `needed` all the same.
        """
        future: asyncio.Future[O] = asyncio.get_running_loop().create_future()
        self._add(lane, _Waiting(item, future, needed))
        return await future

    def put(self, lane: Hashable, item: I) -> None:
        """Have the item done after what its lane holds already, without waiting; its outcome is nobody's."""
        self._add(lane, _Waiting(item, None, needed=True))

    def _add(self, lane: Hashable, waiting: _Waiting[I, O]) -> None:
        with self._lock:
            if lane in self._lanes:
                self._lanes[lane].append(waiting)
                return
            self._lanes[lane] = deque([waiting])
            self._ready.append(lane)
            if self._busy == self._threads:
                return
            self._busy += 1
            if self._pool is None:
                self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix=self._name)
            self._pool.submit(self._serve)

    def _serve(self) -> None:
        """Do one batch after the other, of each lane in turn, until nothing waits."""
        while True:
            with self._lock:
                if not self._ready:
                    self._busy -= 1
                    return
                lane = self._ready.popleft()
                queue = self._lanes[lane]
                batch = [queue.popleft() for _ in range(min(self._at_most, len(queue)))]
            wanted = [waiting for waiting in batch if not waiting.given_up]
            _deliver(wanted, self._outcomes(lane, [waiting.item for waiting in wanted]))
            with self._lock:
                if queue:
                    self._ready.append(lane)
                else:
                    del self._lanes[lane]

    def _outcomes(self, lane: Hashable, items: list[I]) -> Sequence[O | Exception]:
        if not items:
            return []
        try:
            outcomes = self._work(lane, items)
            if len(outcomes) != len(items):
                raise RuntimeError(f"{self._name} gave {len(outcomes)} outcomes for {len(items)} items")
        except Exception as error:  # noqa: BLE001 - it is raised to whoever waits for the item
            if len(items) == 1:
                return [error]
            return [self._outcomes(lane, [item])[0] for item in items]
        return outcomes


@dataclass(slots=True)
class _Post[I, O]:
    """What one event loop is told at once: to wake it costs more than the rest."""

    told: list[tuple[asyncio.Future[O], O | Exception]] = field(default_factory=list)

    def deliver(self) -> None:
        for future, outcome in self.told:
            if future.done():
                continue
            if isinstance(outcome, Exception):
                future.set_exception(outcome)
            else:
                future.set_result(outcome)


def _deliver[I, O](batch: Sequence[_Waiting[I, O]], outcomes: Sequence[O | Exception]) -> None:
    posts: defaultdict[asyncio.AbstractEventLoop, _Post[I, O]] = defaultdict(_Post)
    for waiting, outcome in zip(batch, outcomes, strict=True):
        if waiting.future is not None:
            posts[waiting.future.get_loop()].told.append((waiting.future, outcome))
    for loop, post in posts.items():
        # A loop that was closed has nobody left who waits.
        if not loop.is_closed():
            loop.call_soon_threadsafe(post.deliver)
