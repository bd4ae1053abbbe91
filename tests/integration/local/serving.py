"""Servers on loopback for tests of the front door, and the note by which it learns of a deploy."""

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from starlette.types import ASGIApp

from local.processes import write_atomically
from local.settings import LOOPBACK, Home


def tell_front(home: Home, **outputs: str) -> None:
    """Write the outputs as a deploy does."""
    write_atomically(home.outputs_file, json.dumps({"runyard-local-api": outputs}))


@contextmanager
def served(app: ASGIApp, port: int) -> Iterator[None]:
    """Serve an ASGI app on loopback from a thread."""
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", ws="websockets-sansio", proxy_headers=False))
    with socket.socket() as listener:
        # Connections queue up from here on, so that nobody has to wait for the server.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((LOOPBACK, port))
        listener.listen()
        thread = threading.Thread(target=server.run, args=[[listener]], daemon=True)
        thread.start()
        try:
            yield
        finally:
            server.should_exit = True
            thread.join(10)
