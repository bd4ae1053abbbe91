"""Runs the HTTP server and the registration side by side, and ends both in order."""

import asyncio
import logging
import secrets
import signal
import socket
from types import FrameType

import uvicorn

from sandbox.app import build_app
from sandbox.commands import CommandRegistry
from sandbox.config import Config
from sandbox.files import Workspace
from sandbox.registration import RegistrationError, register

_STOP_COMMANDS_WITHIN_S = 5.0
_BACKLOG = 128

logger = logging.getLogger("sandbox.server")


class _Server(uvicorn.Server):
    """A server whose SIGTERM ends the commands first: requests that wait for them would hold it up."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.stop_requested = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 - uvicorn's signature
        self._loop.call_soon_threadsafe(self.stop_requested.set)


async def serve(config: Config) -> int:
    """Serve until SIGTERM (0) or until the platform refuses the sandbox (1)."""
    access_token = secrets.token_urlsafe(32)
    commands = CommandRegistry(config.limits, workspace=config.workspace)
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGCHLD, commands.reap)
    server = _Server(
        uvicorn.Config(
            build_app(commands, Workspace(config.workspace, config.limits), access_token, config.limits),
            loop="asyncio",
            http="h11",
            ws="none",
            lifespan="off",
            access_log=False,
            log_config=None,
            server_header=False,
            date_header=False,
            limit_concurrency=256,
            timeout_graceful_shutdown=2,
        )
    )
    # Listening before registering: the platform calls back while it answers; the backlog keeps an early call.
    # All addresses: the task has a network of its own.
    listener = socket.create_server(("0.0.0.0", config.port), backlog=_BACKLOG)  # noqa: S104
    # asyncio sets this for sockets that it made itself only. Without it, an answer's body waits 40 ms for the
    # acknowledgement of its header.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    stopping = asyncio.create_task(server.stop_requested.wait())
    registering = asyncio.create_task(register(config, access_token))
    status = await _until_stopped(serving, stopping, registering)
    registering.cancel()
    await commands.shut_down(within_s=_STOP_COMMANDS_WITHIN_S)
    server.should_exit = True
    await serving
    return status


async def _until_stopped(
    serving: asyncio.Task[None], stopping: asyncio.Task[bool], registering: asyncio.Task[None]
) -> int:
    await asyncio.wait({serving, stopping, registering}, return_when=asyncio.FIRST_COMPLETED)
    if registering.done():
        try:
            registering.result()
        except RegistrationError as error:
            logger.error("%s", error)  # noqa: TRY400 - the message says it all
            return 1
        await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
    logger.info("stopping")
    return 0
