"""Connections to providers: kept and reused, with bounds to what comes over them and to where they lead.

The clients of `openai` and `anthropic` are given this module's HTTP client. It does what theirs do but for redirects,
cookies, proxies and compressed answers, none of which a provider's API needs, and takes half of the time. What goes
over the connections lies in the `extensions` of a request and an answer: httpx2's own way of holding headers and bodies
would take as long as to send them.
"""

import asyncio
import errno
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from functools import cache, lru_cache
from typing import Any, Final

import aiohttp
import httpx2

from shared.inference.errors import ProviderMisconfigured, ProviderUnreachable
from shared.inference.providers.failures import malformed, timed_out
from shared.kernel import settings
from shared.kernel.errors import RunyardError
from shared.kernel.public_addresses import is_allowed

LARGEST_ANSWER: Final = 32 * 2**20
_CONNECT_TIMEOUT_S: Final = 3.0
# Below the shortest time for which a provider's load balancer keeps an idle connection.
_KEPT_S: Final = 30.0
_MOST_CONNECTIONS: Final = 1_000
_UNCOMPRESSED: Final = ("Accept-Encoding", "identity")
_HEADERS: Final = ("Content-Type", "Retry-After")
# Stands where httpx2 has what is said.
_ELSEWHERE: Final = httpx2.ByteStream(b"")
_url = lru_cache(maxsize=512)(httpx2.URL)


def request(
    method: str, url: str, *, headers: Mapping[str, str], content: bytes | None, silence_s: float
) -> httpx2.Request:
    """Return a request of these headers alone. Its sender bounds the whole time, this only how long nothing is said."""
    said = {"headers": headers, "content": content, "silence_s": silence_s}
    return httpx2.Request(method, _url(url), stream=_ELSEWHERE, extensions=said)


def content(answer: httpx2.Response) -> bytes:
    """Return what a whole answer says."""
    said: bytes = answer.extensions["content"]
    return said


@cache
def client(*, guarded: bool) -> "Client":
    """Return the HTTP client; with `guarded` it connects to public addresses alone, whatever a tenant names."""
    return Client(guarded=guarded)


class Client(httpx2.AsyncClient):
    """Sends requests as they are, over the connections of the running loop; raises our errors in place of its own.

    Requests are those of `request`.
    """

    def __init__(self, *, guarded: bool) -> None:
        super().__init__(trust_env=False, transport=httpx2.MockTransport(_unused))
        self._guarded = guarded
        self._open: dict[asyncio.AbstractEventLoop, tuple[aiohttp.ClientSession, AsyncGenerator[None]]] = {}

    async def send(self, request: httpx2.Request, *, stream: bool = False, **_: Any) -> httpx2.Response:
        """Return the answer. Unless it is to be streamed it was read to its end; `content` tells what it says."""
        opened = self._open.get(asyncio.get_running_loop())
        session = await self._connect() if opened is None else opened[0]
        try:
            answer = await session.request(
                request.method,
                str(request.url),
                headers=[*request.extensions["headers"].items(), _UNCOMPRESSED],
                data=request.extensions["content"],
                timeout=aiohttp.ClientTimeout(
                    sock_connect=_CONNECT_TIMEOUT_S, sock_read=request.extensions["silence_s"]
                ),
                allow_redirects=False,
            )
            if answer.headers.get("Content-Encoding", "identity") != "identity":
                answer.close()
                raise malformed("it is compressed, which nobody asked for")
            if stream and answer.status < 300:
                body = Stream(answer)
                return httpx2.Response(answer.status, headers=_told(answer), stream=body, request=request)
            said = {"content": await _whole(answer)}
        except _FAILURES as error:
            failure = _failure(error)
        else:
            return httpx2.Response(
                answer.status, headers=_told(answer), stream=_ELSEWHERE, request=request, extensions=said
            )
        raise failure

    async def _connect(self) -> aiohttp.ClientSession:
        session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=_MOST_CONNECTIONS,
                keepalive_timeout=_KEPT_S,
                socket_factory=_guarded_socket if self._guarded else None,
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
            skip_auto_headers=("User-Agent", "Accept-Encoding", "Accept", "Content-Type"),
        )
        # A loop that is shut down closes its generators, and this one the connections.
        lifetime = self._until_the_end(session)
        self._open[asyncio.get_running_loop()] = session, lifetime
        await anext(lifetime)
        return session

    async def _until_the_end(self, session: aiohttp.ClientSession) -> AsyncGenerator[None]:
        try:
            yield
        finally:
            self._open.pop(asyncio.get_running_loop(), None)
            await session.close()


class Stream(httpx2.AsyncByteStream):
    """An answer as it comes. Closed before its end it closes the connection, by which the other side learns of it."""

    def __init__(self, answer: aiohttp.ClientResponse) -> None:
        self._answer = answer
        self._timer: asyncio.TimerHandle | None = None
        self._late = False

    def due_in(self, seconds: float) -> None:
        """End the stream unless it has ended in so many seconds, in place of what was said before."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(seconds, self._expire)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield bytes; raise `ProviderTimedOut`, `ProviderUnreachable`, or `ProviderAnsweredWrongly` for too many."""
        size = 0
        try:
            async for part in self._answer.content.iter_any():
                size += len(part)
                if size > LARGEST_ANSWER:
                    break
                yield part
            else:
                return
            failure: RunyardError = malformed(f"it is larger than {LARGEST_ANSWER} bytes")
        except _FAILURES as error:
            failure = _failure(TimeoutError() if self._late else error)
        raise failure

    async def aclose(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._answer.content.at_eof():
            self._answer.release()
        else:
            self._answer.close()

    def _expire(self) -> None:
        self._late = True
        self._answer.close()


def _told(answer: aiohttp.ClientResponse) -> list[tuple[str, str]]:
    # Nothing else is looked at. What isn't here, no library writes down: some providers repeat what they were sent.
    return [(name, answer.headers[name]) for name in _HEADERS if name in answer.headers]


async def _whole(answer: aiohttp.ClientResponse) -> bytes:
    announced = answer.content_length
    if announced is not None and announced <= LARGEST_ANSWER:
        return await answer.read()
    content = bytearray()
    if announced is None:
        async for part in answer.content.iter_any():
            content += part
            if len(content) > LARGEST_ANSWER:
                break
        else:
            return bytes(content)
    answer.close()
    raise malformed(f"it is larger than {LARGEST_ANSWER} bytes")


_FAILURES: Final = (aiohttp.ClientError, TimeoutError, OSError, ValueError)


def _failure(error: Exception) -> RunyardError:
    match error:
        case aiohttp.ConnectionTimeoutError():
            pass
        case TimeoutError():
            return timed_out()
        case aiohttp.InvalidURL() | aiohttp.NonHttpUrlClientError():
            return ProviderMisconfigured("The model provider's address is none that can be asked.")
        case aiohttp.ClientConnectorError() if error.os_error.errno == errno.EACCES:
            return ProviderMisconfigured("The model provider isn't at a public address.")
        case aiohttp.ClientResponseError() | ValueError():
            return malformed("it isn't HTTP")
    return ProviderUnreachable("The model provider can't be reached, or hung up; try again shortly.", retry_after_s=1)


def _guarded_socket(address: aiohttp.AddrInfoType) -> socket.socket:
    """Return a socket to connect to this address with: where the name really leads, looked at when it counts."""
    family, kind, protocol, _, where = address
    if not is_allowed(str(where[0]), private=settings.private_providers()):
        raise OSError(errno.EACCES, "not a public address")
    return socket.socket(family=family, type=kind, proto=protocol)


def _unused(_: httpx2.Request) -> httpx2.Response:
    raise RuntimeError("every request goes through aiohttp")
