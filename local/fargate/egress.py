"""The only way out of a jail: its own task metadata, and the platform's registration endpoint. Nothing else."""

import asyncio
import contextlib
import json
import logging
import socket

import h11
import httpx

_LONGEST_BODY_BYTES = 64 * 1024
_READ_TIMEOUT_S = 30.0
_CONNECTIONS_AT_ONCE = 8
_REGISTRATION = ("POST", b"/v1/sandboxes/register")
_METADATA = ("GET", b"/metadata/task")

type _Answer = tuple[int, bytes]

logger = logging.getLogger(__name__)


class Egress:
    """Serves one jail on the socket that listens inside it; it is accepted, read and judged out here."""

    def __init__(self, *, task_arn: str, address: str, front: httpx.AsyncClient) -> None:
        self._metadata = _task_metadata(task_arn, address)
        self._front = front
        self._slots = asyncio.Semaphore(_CONNECTIONS_AT_ONCE)

    async def serve(self, listener: socket.socket) -> asyncio.Server:
        """Start to serve; the caller closes the server."""
        return await asyncio.start_server(self._connected, sock=listener)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Handle one connection: one request, one answer."""
        connection = h11.Connection(h11.SERVER)
        try:
            async with self._slots, asyncio.timeout(_READ_TIMEOUT_S * 2):
                status, body = await self._answer(connection, reader)
                headers = [
                    ("Content-Type", "application/json"),
                    ("Content-Length", str(len(body))),
                    ("Connection", "close"),
                ]
                writer.write(connection.send(h11.Response(status_code=status, headers=headers)) or b"")
                writer.write(connection.send(h11.Data(data=body)) or b"")
                writer.write(connection.send(h11.EndOfMessage()) or b"")
                await writer.drain()
        except (h11.ProtocolError, TimeoutError, ConnectionError):
            pass  # a client in the jail that does not speak HTTP, or has gone
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def _answer(self, connection: h11.Connection, reader: asyncio.StreamReader) -> _Answer:
        try:
            request, body = await _read_request(connection, reader)
        except h11.RemoteProtocolError:
            return _error(400, "bad_request", "This is not HTTP/1.1.")
        if body is None:
            return _error(413, "request_too_large", f"A body may have {_LONGEST_BODY_BYTES} bytes at most.")
        asked = (request.method.decode("ascii"), bytes(request.target))
        if asked == _METADATA:
            return 200, self._metadata
        if asked == _REGISTRATION:
            return await self._register(body)
        return _error(403, "not_reachable_from_sandbox", "A sandbox reaches nothing but its registration.")

    async def _register(self, body: bytes) -> _Answer:
        try:
            answer = await self._front.post(
                _REGISTRATION[1].decode(), content=body, headers={"Content-Type": "application/json"}
            )
        except httpx.HTTPError as error:
            logger.warning("the front door did not answer a registration: %s", type(error).__name__)
            return _error(502, "platform_unavailable", "The platform did not answer.")
        return answer.status_code, answer.content


async def _read_request(connection: h11.Connection, reader: asyncio.StreamReader) -> tuple[h11.Request, bytes | None]:
    """Read one request whole. The body is None when it is too long."""
    request: h11.Request | None = None
    body = bytearray()
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(await reader.read(16 * 1024))
        elif isinstance(event, h11.Request):
            request = event
        elif isinstance(event, h11.Data):
            body += event.data
            if request is not None and len(body) > _LONGEST_BODY_BYTES:
                return request, None
        elif isinstance(event, h11.EndOfMessage) and request is not None:
            return request, bytes(body)
        else:
            raise ConnectionResetError("closed before a request was complete")


def _task_metadata(task_arn: str, address: str) -> bytes:
    """Return the part of ECS task metadata, version 4, that tells a task its own address."""
    network = {"NetworkMode": "awsvpc", "IPv4Addresses": [address]}
    return json.dumps({"TaskARN": task_arn, "Containers": [{"Networks": [network]}]}).encode()


def _error(status: int, code: str, message: str) -> _Answer:
    return status, json.dumps({"error": {"code": code, "message": message}}).encode()
