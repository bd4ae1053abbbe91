"""Gives each sandbox a loopback address of its own, and carries connections from there into its jail."""

import asyncio
import contextlib
import errno
import itertools
import secrets
import socket
from collections.abc import Iterator

from local.fargate.container import Container

_CHUNK_BYTES = 256 * 1024
_ATTEMPTS = 50


class AddressError(Exception):
    """No loopback address could be bound."""


class AddressPool:
    """Hands out 127.x.y.z, one after the other, so that an address is not soon used again.

    x follows from the home's ports: two homes on one machine keep apart. What is free is decided by binding.
    """

    def __init__(self, port_base: int) -> None:
        self._network = 1 + port_base % 253
        self._numbers = itertools.count(secrets.randbelow(60_000))

    def bind(self, port: int) -> socket.socket:
        """Return a socket bound to the next free address. Raises `AddressError`."""
        for address in itertools.islice(self._addresses(), _ATTEMPTS):
            try:
                listener = socket.create_server((address, port))
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise AddressError(f"{address}:{port} cannot be bound: {error.strerror}") from error
            else:
                # asyncio sets this for sockets that it made itself only; see sandbox/server.py.
                listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                return listener
        raise AddressError(f"Port {port} is taken on every loopback address; free it, then try again.")

    def _addresses(self) -> Iterator[str]:
        for number in self._numbers:
            high, low = divmod(number % 64_000, 250)
            yield f"127.{self._network}.{high}.{low + 1}"


async def serve_ingress(listener: socket.socket, container: Container) -> asyncio.Server:
    """Start to carry connections into the jail; the caller closes the server."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inside = await container.dial()
        if inside is None:
            writer.close()
            return
        inside.setblocking(False)
        inner_reader, inner_writer = await asyncio.open_connection(sock=inside)
        async with asyncio.TaskGroup() as both:
            both.create_task(_carry(reader, inner_writer))
            both.create_task(_carry(inner_reader, writer))
        for end in (writer, inner_writer):
            end.close()

    return await asyncio.start_server(connected, sock=listener)


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copy one direction to its end, then close that direction only."""
    with contextlib.suppress(ConnectionError):
        while chunk := await reader.read(_CHUNK_BYTES):
            writer.write(chunk)
            await writer.drain()
    with contextlib.suppress(OSError):
        if writer.can_write_eof():
            writer.write_eof()
