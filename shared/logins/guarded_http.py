"""HTTP to whom a tenant names: checked addresses, no redirects, one deadline for all of it, bounded answers.

The address is checked where the connection is made, so that a name can't lead elsewhere after it was looked at. Heavy
to import: the clients do so when they are called.
"""

import json
import socket
import ssl
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import httpcore
import httpx

from shared.kernel import settings
from shared.logins.addresses import check_address, check_url
from shared.logins.model import IdentityProviderFailed

_TIMEOUT_S: Final = 5.0
_LARGEST_ANSWER: Final = 1_000_000
_ATTEMPTED_ADDRESSES: Final = 2
_FAILURES: Final = (
    httpx.HTTPError,
    httpx.InvalidURL,
    httpcore.TimeoutException,
    httpcore.NetworkError,
    httpcore.ProtocolError,
    httpcore.UnsupportedProtocol,
    OSError,
    UnicodeError,
)
_ACCEPTED: Final = {"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "runyard"}


@dataclass(frozen=True, slots=True)
class Answer:
    """A status and the JSON that came with it; None where there was none."""

    status: int
    json: Any


def get(url: str, *, headers: Mapping[str, str] | None = None) -> Answer:
    return _send("GET", url, headers or {}, None)


def post(url: str, *, headers: Mapping[str, str], body: str) -> Answer:
    return _send("POST", url, headers, body.encode())


def _send(method: str, url: str, headers: Mapping[str, str], body: bytes | None) -> Answer:
    """Raises `IssuerRefused` for an address that is not allowed, `IdentityProviderFailed` for all that goes wrong."""
    check_url(url, private=settings.logins().private_issuers)
    transport = _Transport(until=time.monotonic() + _TIMEOUT_S)
    # Errors are raised from None: theirs hold the request, and with it the client's secret.
    try:
        with httpx.Client(transport=transport, follow_redirects=False, trust_env=False) as client:
            answer = client.request(method, url, headers={**_ACCEPTED, **headers}, content=body)
    except _FAILURES:
        raise IdentityProviderFailed("The identity provider can't be reached in time; try again shortly.") from None
    if answer.status_code >= 500 or answer.is_redirect:
        raise IdentityProviderFailed(f"The identity provider answers with status {answer.status_code}.")
    return Answer(answer.status_code, _read(answer.content))


def _read(content: bytes) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None


@cache
def _tls() -> ssl.SSLContext:
    return httpx.create_ssl_context(trust_env=False)


class _Transport(httpx.BaseTransport):
    """One request over one connection. Of the answer's headers nothing is kept, so that nothing is unpacked."""

    def __init__(self, *, until: float) -> None:
        self._until = until

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        url = httpcore.URL(
            scheme=request.url.raw_scheme,
            host=request.url.raw_host,
            port=request.url.port,
            target=request.url.raw_path,
        )
        content = bytearray()
        with (
            httpcore.ConnectionPool(ssl_context=_tls(), network_backend=_Backend(self._until)) as pool,
            pool.stream(request.method, url, headers=request.headers.raw, content=request.read()) as answer,
        ):
            for part in answer.iter_stream():
                content += part
                if len(content) > _LARGEST_ANSWER:
                    raise IdentityProviderFailed("The identity provider's answer is larger than 1 MB.")
            location = {"location": "elsewhere"} if 300 <= answer.status < 400 else {}
            return httpx.Response(answer.status, headers=location, content=bytes(content))


def _left(until: float) -> float:
    left = until - time.monotonic()
    if left <= 0:
        raise httpcore.ReadTimeout
    return left


class _Backend(httpcore.NetworkBackend):
    """Connects to addresses that were checked, and to no name."""

    def __init__(self, until: float) -> None:
        self._until = until
        self._inner = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ARG002 - the deadline counts
        local_address: str | None = None,  # noqa: ARG002
        socket_options: Iterable[Any] | None = None,  # noqa: ARG002
    ) -> httpcore.NetworkStream:
        private = settings.logins().private_issuers
        found = dict.fromkeys(str(each[4][0]) for each in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        # One bad address among several is reason enough to refuse the name.
        *others, last = [check_address(address, private=private) for address in found][:_ATTEMPTED_ADDRESSES]
        for address in others:
            try:
                return self._connect(address, port, _left(self._until) / 2)
            except (httpcore.NetworkError, httpcore.TimeoutException):
                continue
        return self._connect(last, port, _left(self._until))

    def _connect(self, address: str, port: int, timeout: float) -> httpcore.NetworkStream:
        return _Stream(self._inner.connect_tcp(address, port, timeout=timeout), self._until)


class _Stream(httpcore.NetworkStream):
    """A connection whose every wait ends with the one deadline: a byte now and then does not prolong it."""

    def __init__(self, inner: httpcore.NetworkStream, until: float) -> None:
        self._inner = inner
        self._until = until

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002
        return self._inner.read(max_bytes, timeout=_left(self._until))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ARG002
        self._inner.write(buffer, timeout=_left(self._until))

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ARG002
    ) -> httpcore.NetworkStream:
        return _Stream(self._inner.start_tls(ssl_context, server_hostname, _left(self._until)), self._until)

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)
