"""One event loop in a thread of its own, for synchronous code that calls what is asynchronous.

It lives as long as the worker, so that connections made on it are kept from one invocation to the next.
"""

import asyncio
import threading
from collections.abc import Coroutine

_starting = threading.Lock()
_loops: list[asyncio.AbstractEventLoop] = []


def run[T](work: Coroutine[object, object, T]) -> T:
    """Return what the coroutine returns, or raise what it raises; whoever stops waiting cancels it."""
    future = asyncio.run_coroutine_threadsafe(work, _loop())
    try:
        return future.result()
    except BaseException:
        future.cancel()
        raise


def _loop() -> asyncio.AbstractEventLoop:
    with _starting:
        if not _loops:
            loop = asyncio.new_event_loop()
            threading.Thread(target=loop.run_forever, name="runyard-loop", daemon=True).start()
            _loops.append(loop)
        return _loops[0]
