"""Starts the offline model on 127.0.0.1, at RUNYARD_MODEL_PORT (default 7074; 0 takes any free port)."""

import os
import socket
import sys

import uvicorn

from local.offline_model.app import create_app
from local.offline_model.schemas import CHAT_MODEL

HOST = "127.0.0.1"
PORT_VARIABLE = "RUNYARD_MODEL_PORT"
DEFAULT_PORT = "7074"


def main() -> None:
    listener = _listen(_port())
    # Connections are queued from here on, so whoever reads this line may call at once.
    print(f"{CHAT_MODEL} listens on http://{HOST}:{listener.getsockname()[1]}", flush=True)
    config = uvicorn.Config(create_app(), timeout_graceful_shutdown=2, lifespan="off", server_header=False)
    uvicorn.Server(config).run(sockets=[listener])


def _port() -> int:
    text = os.environ.get(PORT_VARIABLE, DEFAULT_PORT)
    if not (text.isascii() and text.isdecimal() and int(text) <= 65535):
        sys.exit(f"{PORT_VARIABLE} is {text!r}; it must be a port number from 0 to 65535.")
    return int(text)


def _listen(port: int) -> socket.socket:
    # With the protocol named asyncio turns Nagle's algorithm off; else every answer waits 40 ms for an ACK.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    # A port that a stopped server used a moment ago may be taken again at once.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
        listener.listen(socket.SOMAXCONN)
    except OSError as error:
        sys.exit(
            f"The offline model can't listen on {HOST}:{port}: {error.strerror}. "
            f"Stop what uses the port, or set {PORT_VARIABLE} to another one."
        )
    return listener


if __name__ == "__main__":
    main()
