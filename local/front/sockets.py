"""Forwards WebSockets to the emulator's WebSocket API, message by message, both ways."""

import asyncio
from typing import Final

from starlette.responses import Response
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.typing import Subprotocol

from local.front.errors import envelope
from local.front.upstream import Upstream

# What API Gateway takes in one message.
LARGEST_MESSAGE_BYTES: Final = 128 * 1024
# The client library writes these itself for its own connection.
_OF_THE_HANDSHAKE: Final = frozenset(
    {
        "host", "connection", "upgrade", "sec-websocket-key", "sec-websocket-version", "sec-websocket-extensions",
        "sec-websocket-protocol", "user-agent",
    }
)  # fmt: skip


class SocketForwarder:
    """An endpoint that opens a connection to the WebSocket API for each one it is given."""

    def __init__(self, upstream: Upstream, public_url: str) -> None:
        self._upstream = upstream
        self._public_url = public_url

    async def serve(self, client: WebSocket) -> None:
        """Relay one client for as long as it and the API stay connected."""
        api = self._upstream.apis().websocket
        if api is None:
            await self._refuse(client, "not_deployed")
            return
        try:
            opened = await connect(
                self._upstream.websocket_url(api, client.scope["query_string"].decode()),
                additional_headers=[(k, v) for k, v in client.headers.items() if k not in _OF_THE_HANDSHAKE],
                subprotocols=[Subprotocol(name) for name in client.scope["subprotocols"]] or None,
                compression=None,
                max_size=LARGEST_MESSAGE_BYTES,
                proxy=None,
            )
        except InvalidStatus as error:
            # Not let in (no key, wrong key): the API's own answer.
            content_type = error.response.headers.get("content-type", "application/json")
            body = error.response.body or b""
            await client.send_denial_response(Response(body, error.response.status_code, media_type=content_type))
        except (OSError, InvalidHandshake, TimeoutError):
            await self._refuse(client, "emulator_unreachable")
        else:
            async with opened as server:
                await client.accept(subprotocol=server.subprotocol)
                await _relay(client, server)

    async def _refuse(self, client: WebSocket, code: str) -> None:
        request_id = client.headers.get("x-request-id")
        await client.send_denial_response(envelope(code, public_url=self._public_url, request_id=request_id))


async def _relay(client: WebSocket, server: ClientConnection) -> None:
    """Relay until either side ends, then end the other."""
    async with asyncio.TaskGroup() as both:
        both.create_task(_to_server(client, server))
        both.create_task(_to_client(client, server))


async def _to_server(client: WebSocket, server: ClientConnection) -> None:
    try:
        while True:
            message = await client.receive()
            if message["type"] == "websocket.disconnect":
                break
            text = message.get("text")
            await server.send(message["bytes"] if text is None else text)
    except (ConnectionClosed, WebSocketDisconnect):
        return
    await server.close()


async def _to_client(client: WebSocket, server: ClientConnection) -> None:
    try:
        async for message in server:
            await (client.send_text(message) if isinstance(message, str) else client.send_bytes(message))
    except (ConnectionClosed, WebSocketDisconnect):
        pass
    if client.client_state is WebSocketState.CONNECTED:
        await client.close(_close_code(server.close_code))


def _close_code(received: int | None) -> int:
    """Return the code to close the client with: the server's, unless it stands for there being none (RFC 6455, 7.4)."""
    if received in (None, 1005):
        return 1000
    return 1011 if received in (1006, 1015) else received
