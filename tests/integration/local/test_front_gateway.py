"""The front door before the model gateway: what goes there, how fast it comes back, and who is told when it ends."""

import asyncio
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator

import httpx
import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from local.front.app import create_app
from local.front.forwarding import LARGEST_BODY_BYTES
from local.passwords import read_passwords
from local.settings import LOOPBACK, REPOSITORY, Home
from tests.integration.local.homes import new_home
from tests.integration.local.serving import served, tell_front
from tests.waiting import takes_less_than

CHAT = "/v1/chat/completions"
# What a client may notice of the door when it goes away.
SOON_S = 0.1


class Upstream:
    """An ASGI app that tells what reached it, or does what a test wants, and notes when its client went away."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.answer: Callable[[Receive, Send], object] | None = None
        self.asked = threading.Event()
        self.left = threading.Event()
        self.left_at = 0.0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        body = b""
        more = True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        self.asked.set()
        if self.answer is not None:
            await self.answer(receive, send)  # type: ignore[misc]
            return
        seen = {
            "name": self.name,
            "path": scope["raw_path"].decode(),
            "query": scope["query_string"].decode(),
            "headers": {name.decode(): value.decode() for name, value in scope["headers"]},
            "size": len(body),
            "body": body[:100].decode(),
        }
        await start(send, content_length=None)
        await send({"type": "http.response.body", "body": json.dumps(seen).encode()})

    async def waits(self, receive: Receive, _: Send) -> None:
        """Answer nothing until the client has gone."""
        while (await receive())["type"] != "http.disconnect":
            pass
        self.left_at = time.monotonic()
        self.left.set()

    async def streams_and_waits(self, receive: Receive, send: Send) -> None:
        """Send a first piece, and no other."""
        await start(send, content_length=None)
        await send({"type": "http.response.body", "body": b"data: first\n\n", "more_body": True})
        await self.waits(receive, send)

    def left_within(self, moment: float) -> float:
        """Return how many seconds after the moment the client was known to have gone."""
        assert self.left.wait(30), "nobody was told that the client had gone"
        self.left.clear()
        return self.left_at - moment


async def start(send: Send, *, content_length: int | None) -> None:
    headers = [(b"content-type", b"application/json"), (b"x-runyard-cache", b"miss")]
    if content_length is not None:
        headers.append((b"content-length", b"%d" % content_length))
    await send({"type": "http.response.start", "status": 200, "headers": headers})


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    made = new_home(tmp_path_factory.mktemp("door"))
    tell_front(made, HttpApiId="0123abcd")
    return made


@pytest.fixture(scope="module")
def upstreams(home: Home) -> Iterator[dict[str, Upstream]]:
    """The gateway and the emulator, made up; the door between them and the tests is the real one."""
    made = {"gateway": Upstream("gateway"), "api": Upstream("api")}
    door: ASGIApp = create_app(home, REPOSITORY)
    with (
        served(made["gateway"], home.ports.gateway),
        served(made["api"], home.ports.emulator),
        served(door, home.ports.front),
    ):
        yield made


@pytest.fixture
def gateway(upstreams: dict[str, Upstream]) -> Iterator[Upstream]:
    upstreams["gateway"].asked.clear()
    yield upstreams["gateway"]
    for upstream in upstreams.values():
        upstream.answer = None


@pytest.fixture
def client(home: Home, gateway: Upstream) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=home.public_url, trust_env=False, timeout=10) as made:
        yield made


@pytest.mark.parametrize(
    ("method", "path", "answers"),
    [
        ("POST", CHAT, "gateway"),
        ("POST", "/v1/responses", "gateway"),
        ("POST", "/v1/embeddings", "gateway"),
        ("GET", "/v1/models", "gateway"),
        ("GET", "/v1/models/acme/some-model", "gateway"),
        ("GET", "/v1/models/acme%2Fsome-model", "gateway"),
        ("DELETE", CHAT, "gateway"),
        ("GET", "/v1/chat", "api"),
        ("GET", "/v1/modelsx", "api"),
        ("POST", "/v1/agents", "api"),
        ("GET", "/v1/inference/calls", "api"),
    ],
)
def test_what_streams_goes_to_the_gateway_and_the_rest_to_the_api(
    client: httpx.Client, method: str, path: str, answers: str
) -> None:
    seen = client.request(method, f"{path}?a=1&a=%20").json()
    assert (seen["name"], seen["path"], seen["query"]) == (answers, path, "a=1&a=%20")


def test_a_request_reaches_the_gateway_as_it_was_sent(client: httpx.Client) -> None:
    answer = client.post(
        CHAT, json={"model": "é"}, headers={"Authorization": "Bearer mine", "Cache-Control": "no-cache"}
    )

    seen = answer.json()
    assert json.loads(seen["body"]) == {"model": "é"}
    assert (seen["headers"]["authorization"], seen["headers"]["cache-control"]) == ("Bearer mine", "no-cache")
    assert answer.headers["x-runyard-cache"] == "miss"


def test_whoever_shows_no_key_is_shown_to_the_gateway_without_one(client: httpx.Client) -> None:
    assert "authorization" not in client.post(CHAT, json={}).json()["headers"]


def test_the_clients_address_and_the_edges_proof_are_the_doors_word_alone(home: Home, client: httpx.Client) -> None:
    forged = {
        "X-Forwarded-For": "203.0.113.6",
        "X-Runyard-Edge": "forged",
        "x-amzn-request-context": '{"http": {"sourceIp": "203.0.113.6"}}',
        "x-amzn-lambda-context": "{}",
    }
    seen = client.post(CHAT, json={}, headers=forged).json()["headers"]

    assert (seen["x-forwarded-for"], seen["x-runyard-edge"]) == (LOOPBACK, read_passwords(home).edge)
    assert not [name for name in seen if name.startswith("x-amzn")]


def test_ten_megabytes_reach_the_gateway_and_one_byte_more_does_not(client: httpx.Client) -> None:
    assert client.post(CHAT, content=b"a" * LARGEST_BODY_BYTES).json()["size"] == LARGEST_BODY_BYTES

    refused = client.post(CHAT, content=iter([b"a" * LARGEST_BODY_BYTES, b"a"]))
    assert (refused.status_code, refused.json()["error"]["code"]) == (413, "payload_too_large")


@pytest.mark.parametrize("path", [CHAT, "/v1/events"])
def test_a_first_byte_passes_while_the_next_is_not_there_yet(
    upstreams: dict[str, Upstream], client: httpx.Client, path: str
) -> None:
    first_was_read = threading.Event()

    async def answer(_: Receive, send: Send) -> None:
        await start(send, content_length=None)
        await send({"type": "http.response.body", "body": b"d", "more_body": True})
        assert await asyncio.to_thread(first_was_read.wait, 5)
        await send({"type": "http.response.body", "body": b"ata", "more_body": False})

    for upstream in upstreams.values():
        upstream.answer = answer
    with client.stream("POST", path, json={}) as response:
        pieces = response.iter_raw()
        assert next(pieces) == b"d"
        first_was_read.set()
        assert b"".join(pieces) == b"ata"


@pytest.mark.parametrize(("path", "who"), [(CHAT, "gateway"), ("/v1/events", "api")])
def test_a_client_that_leaves_a_stream_is_known_to_have_gone_at_once(
    upstreams: dict[str, Upstream], client: httpx.Client, path: str, who: str
) -> None:
    upstream = upstreams[who]
    upstream.answer = upstream.streams_and_waits

    def known_after_s() -> float:
        with client.stream("POST", path, json={}) as response:
            assert next(response.iter_raw()) == b"data: first\n\n"
        return upstream.left_within(time.monotonic())

    assert takes_less_than(SOON_S, known_after_s)


@pytest.mark.parametrize(("path", "who"), [(CHAT, "gateway"), ("/v1/runs", "api")])
@pytest.mark.parametrize("body", [b"", b"{}"], ids=["without-body", "with-body"])
@pytest.mark.usefixtures("client")
def test_a_client_that_leaves_before_the_answer_is_known_to_have_gone_at_once(
    home: Home, upstreams: dict[str, Upstream], path: str, who: str, body: bytes
) -> None:
    upstream = upstreams[who]
    upstream.answer = upstream.waits
    length = b"content-length: %d\r\n" % len(body) if body else b""

    def known_after_s() -> float:
        upstream.asked.clear()
        with socket.create_connection((LOOPBACK, home.ports.front)) as connection:
            connection.sendall(b"POST %s HTTP/1.1\r\nhost: x\r\n%s\r\n%s" % (path.encode(), length, body))
            assert upstream.asked.wait(30)
        return upstream.left_within(time.monotonic())

    assert takes_less_than(SOON_S, known_after_s)


@pytest.mark.usefixtures("client")
def test_a_client_that_leaves_while_it_still_sends_leaves_nobody_waiting(home: Home, gateway: Upstream) -> None:
    gateway.answer = gateway.waits
    with socket.create_connection((LOOPBACK, home.ports.front)) as connection:
        connection.sendall(b"POST %s HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{" % CHAT.encode())
        time.sleep(0.05)
    gateway.answer = None
    # The door goes on answering others.
    with httpx.Client(base_url=home.public_url, trust_env=False) as other:
        assert other.post(CHAT, json={}).status_code == 200


def test_a_stream_that_breaks_off_breaks_off_at_the_client_too(client: httpx.Client, gateway: Upstream) -> None:
    async def answer(_: Receive, send: Send) -> None:
        await start(send, content_length=None)
        await send({"type": "http.response.body", "body": b"data: first\n\n", "more_body": True})

    gateway.answer = answer
    with client.stream("POST", CHAT, json={}) as response:
        pieces = response.iter_raw()
        assert next(pieces) == b"data: first\n\n"
        with pytest.raises(httpx.RemoteProtocolError):
            next(pieces)


def test_an_answer_that_breaks_off_is_the_doors_error(client: httpx.Client, gateway: Upstream) -> None:
    async def answer(_: Receive, send: Send) -> None:
        await start(send, content_length=100)
        await send({"type": "http.response.body", "body": b"half", "more_body": True})

    gateway.answer = answer
    answered = client.post(CHAT, json={}, headers={"X-Request-Id": "mine"})
    assert (answered.status_code, answered.json()["error"]["code"]) == (502, "gateway_unreachable")


def test_a_gateway_that_is_not_there_is_told_apart_from_nothing_deployed(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    home = new_home(tmp_path_factory.mktemp("alone"))
    home.folder.mkdir(exist_ok=True)
    with (
        served(create_app(home, REPOSITORY), home.ports.front),
        httpx.Client(base_url=home.public_url, trust_env=False) as client,
    ):
        before = client.post(CHAT, json={})
        assert (before.status_code, before.json()["error"]["code"]) == (503, "not_deployed")

        tell_front(home, HttpApiId="0123abcd")
        missing = client.post(CHAT, json={}, headers={"X-Request-Id": "mine"})
    assert (missing.status_code, missing.headers["Retry-After"]) == (502, "1")
    error = missing.json()["error"]
    assert (error["code"], error["retryable"], error["request_id"]) == ("gateway_unreachable", True, "mine")
