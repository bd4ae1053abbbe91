"""A server that speaks bytes, for parties that break off, stall or lie, which no HTTP framework would."""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

_LARGEST_BYTES = 2**26


@contextmanager
def byte_server(
    connection: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]],
) -> Iterator[int]:
    """Run one in a thread of this process, on a free port of the loopback, which is yielded.

    At the end of the block all connections are cut, whereby whoever waits for one finds it at its end.
    """
    stopped, loop, port = asyncio.Event(), asyncio.new_event_loop(), Future[int]()

    async def serve() -> None:
        server = await asyncio.start_server(connection, "127.0.0.1", 0, limit=_LARGEST_BYTES)
        port.set_result(server.sockets[0].getsockname()[1])
        await stopped.wait()
        # Whoever is being accepted when a server closes, or is cancelled then, leaves a socket behind.
        for listening in server.sockets:
            loop.remove_reader(listening.fileno())
        while asyncio.all_tasks() != {asyncio.current_task()}:
            server.abort_clients()
            await asyncio.sleep(0.005)
        server.close()
        await server.wait_closed()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),), daemon=True)
    thread.start()
    try:
        yield port.result(30)
    finally:
        loop.call_soon_threadsafe(stopped.set)
        thread.join(30)
        loop.close()
