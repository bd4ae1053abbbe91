"""The front door before the real emulator: what it lets through, what it changes, what it answers by itself."""

import asyncio
import io
import json
import threading
import zipfile
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import boto3
import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.routing import Route
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from local.front.app import create_app
from local.front.forwarding import LARGEST_BODY_BYTES
from local.passwords import read_passwords
from local.processes import write_atomically
from local.settings import LOOPBACK, REGION, REPOSITORY, Home
from tests.integration.local.homes import new_home
from tests.integration.local.serving import served, tell_front

# Answers with what reached it, over HTTP and over WebSockets; lets nobody in who says so.
ECHO = """
import json, sys
def handler(event, context):
    print("called", file=sys.stderr)
    request = event["requestContext"]
    if request.get("eventType") == "CONNECT":
        return {"statusCode": 403 if "refuse" in (event.get("queryStringParameters") or {}) else 200}
    if request.get("eventType") == "MESSAGE":
        return {"statusCode": 200, "body": "heard: " + event["body"]}
    seen = {name: event.get(name) for name in ("rawPath", "rawQueryString", "headers", "body", "isBase64Encoded")}
    headers = {"content-type": "application/json", "X-Request-Id": "from-the-function", "connection": "x-private",
               "x-private": "1"}
    return {"statusCode": 201, "headers": headers, "body": json.dumps(seen | {"method": request["http"]["method"]})}
"""


def client_of(home: Home, service: str) -> Any:
    make: Callable[..., Any] = boto3.client
    return make(
        service,
        endpoint_url=home.emulator_url,
        region_name=REGION,
        aws_access_key_id="local",
        aws_secret_access_key="local",
    )


def create_function(home: Home) -> str:
    code = io.BytesIO()
    with zipfile.ZipFile(code, "w") as archive:
        archive.writestr("echo.py", ECHO)
    created = client_of(home, "lambda").create_function(
        FunctionName="echo",
        Runtime="python3.13",
        Handler="echo.handler",
        Role="arn:aws:iam::000000000000:role/any",
        Code={"ZipFile": code.getvalue()},
    )
    return str(created["FunctionArn"])


def create_http_api(home: Home, function: str) -> str:
    gateway = client_of(home, "apigatewayv2")
    api = gateway.create_api(Name="http", ProtocolType="HTTP")["ApiId"]
    integration = gateway.create_integration(
        ApiId=api, IntegrationType="AWS_PROXY", IntegrationUri=function, PayloadFormatVersion="2.0"
    )
    gateway.create_route(ApiId=api, RouteKey="$default", Target=f"integrations/{integration['IntegrationId']}")
    gateway.create_stage(ApiId=api, StageName="$default", AutoDeploy=True)
    return str(api)


def create_websocket_api(home: Home, function: str) -> str:
    gateway = client_of(home, "apigatewayv2")
    api = gateway.create_api(Name="sockets", ProtocolType="WEBSOCKET", RouteSelectionExpression="$request.body.action")[
        "ApiId"
    ]
    integration = gateway.create_integration(ApiId=api, IntegrationType="AWS_PROXY", IntegrationUri=function)
    for route in ("$connect", "$default"):
        gateway.create_route(ApiId=api, RouteKey=route, Target=f"integrations/{integration['IntegrationId']}")
    gateway.create_stage(ApiId=api, StageName="ws", AutoDeploy=True)
    return str(api)


@pytest.fixture(scope="module")
def deployed(running_home: Home) -> Home:
    """The running home with the echoing function behind both APIs."""
    function = create_function(running_home)
    http, websocket = create_http_api(running_home, function), create_websocket_api(running_home, function)
    tell_front(running_home, HttpApiId=http, WebSocketApiId=websocket)
    return running_home


@pytest.fixture(scope="module")
def front(deployed: Home) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=deployed.public_url, trust_env=False, timeout=20) as client:
        yield client


def test_a_request_arrives_as_it_was_sent(front: httpx.Client) -> None:
    answer = front.put("/v1/agents/a?limit=2&tag=x&tag=y%20z", json={"name": "é"}, headers={"X-Custom": "kept"})

    assert answer.status_code == 201
    seen = answer.json()
    assert (seen["method"], seen["rawPath"]) == ("PUT", "/v1/agents/a")
    assert seen["rawQueryString"] == "limit=2&tag=x&tag=y%20z"
    assert json.loads(seen["body"]) == {"name": "é"}
    assert seen["headers"]["x-custom"] == "kept"
    assert seen["headers"]["x-forwarded-for"] == "127.0.0.1"


def test_the_clients_address_and_the_edges_proof_are_the_doors_word_alone(deployed: Home, front: httpx.Client) -> None:
    forged = {"X-Forwarded-For": "203.0.113.6", "X-Runyard-Edge": "forged", "Forwarded": "for=203.0.113.6"}
    seen = front.get("/v1/x", headers=forged).json()["headers"]

    assert seen["x-forwarded-for"] == "127.0.0.1"
    assert seen["x-runyard-edge"] == read_passwords(deployed).edge


@pytest.mark.parametrize("path", ["/v1/x", "/mcp", "/mcp/x", "/.well-known/oauth"])
def test_every_path_of_the_api_is_forwarded(front: httpx.Client, path: str) -> None:
    assert front.get(path).json()["rawPath"] == path


def test_headers_of_one_connection_stay_on_it(front: httpx.Client) -> None:
    answer = front.get("/v1/x", headers={"Connection": "keep-alive, X-Hop", "X-Hop": "1", "Proxy-Authorization": "x"})

    assert not {"x-hop", "proxy-authorization", "connection"} & set(answer.json()["headers"])
    assert "x-private" not in answer.headers
    assert len(answer.headers.get_list("date")) == 1


def test_the_functions_request_id_reaches_the_caller(front: httpx.Client) -> None:
    assert front.get("/v1/x").headers["X-Request-Id"] == "from-the-function"


def test_a_body_of_ten_megabytes_passes_and_one_byte_more_does_not(front: httpx.Client) -> None:
    assert front.post("/v1/x", content=b"a" * LARGEST_BODY_BYTES).status_code == 201

    refused = front.post("/v1/x", content=b"a" * (LARGEST_BODY_BYTES + 1), headers={"X-Request-Id": "mine"})
    assert refused.status_code == 413
    assert refused.headers["X-Request-Id"] == "mine"
    error = refused.json()["error"]
    assert (error["code"], error["request_id"], error["retryable"]) == ("payload_too_large", "mine", False)


def test_an_authorization_of_a_megabyte_is_refused_as_any_other_that_is_none(front: httpx.Client) -> None:
    answer = front.get("/v1/me", headers={"Authorization": f"Bearer {'a' * 1_000_000}"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "malformed_authorization")


def test_a_body_of_unknown_length_is_measured_as_it_comes(front: httpx.Client) -> None:
    def chunks(count: int) -> Iterator[bytes]:
        for _ in range(count):
            yield b"a" * 65536

    assert front.post("/v1/x", content=chunks(2)).status_code == 201
    assert front.post("/v1/x", content=chunks(161)).json()["error"]["code"] == "payload_too_large"


def test_a_new_deploy_is_noticed_without_a_restart(deployed: Home, front: httpx.Client) -> None:
    before = deployed.outputs_file.read_text()
    deployed.outputs_file.unlink()
    missing = front.get("/v1/x")
    assert (missing.status_code, missing.json()["error"]["code"]) == (503, "not_deployed")
    assert missing.headers["Retry-After"] == "1"

    write_atomically(deployed.outputs_file, before)
    assert front.get("/v1/x").status_code == 201


def test_messages_go_both_ways_over_a_websocket(deployed: Home) -> None:
    with connect(f"ws://{LOOPBACK}:{deployed.ports.front}/ws?token=x", proxy=None) as connection:
        for text in ('{"action": "one"}', '{"action": "two"}'):
            connection.send(text)
            assert connection.recv(timeout=10) == f"heard: {text}"


@pytest.mark.usefixtures("deployed")
def test_a_refused_websocket_is_refused_at_the_door(deployed: Home) -> None:
    with (
        pytest.raises(InvalidStatus) as raised,
        connect(f"ws://{LOOPBACK}:{deployed.ports.front}/ws?refuse=1", proxy=None),
    ):
        pytest.fail("it was let in")
    assert raised.value.response.status_code == 403


def test_keys_in_a_websockets_address_are_not_logged(deployed: Home) -> None:
    with connect(f"ws://{LOOPBACK}:{deployed.ports.front}/ws?token=ry_live_secret", proxy=None):
        pass
    assert "ry_live_secret" not in (deployed.logs / "front.log").read_text()


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "text/html"),
        ("/docs", "text/html"),
        ("/errors", "text/html"),
        ("/docs.js", "text/javascript"),
        ("/docs/viewer/swagger-ui-bundle.js", "text/javascript"),
        ("/docs/viewer/swagger-ui.css", "text/css"),
    ],
)
def test_the_pages_come_from_this_machine_alone(front: httpx.Client, path: str, kind: str) -> None:
    answer = front.get(path)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith(kind)
    assert answer.headers["content-security-policy"].startswith("default-src 'self'")
    if kind == "text/html":
        assert "://" not in answer.text


def test_an_unknown_address_is_answered_in_the_apis_envelope(front: httpx.Client) -> None:
    answer = front.get("/nowhere")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "route_not_found")


def test_without_the_emulator_the_answer_is_an_error_of_ours(tmp_path_factory: pytest.TempPathFactory) -> None:
    home = new_home(tmp_path_factory.mktemp("alone"))
    tell_front(home, HttpApiId="0123abcd", WebSocketApiId="0123abcd")
    with served(create_app(home, REPOSITORY), home.ports.front), httpx.Client(trust_env=False) as client:
        answer = client.get(f"{home.public_url}/v1/x")
        assert (answer.status_code, answer.json()["error"]["code"]) == (502, "emulator_unreachable")
        with pytest.raises(InvalidStatus) as raised:
            connect(f"ws://{LOOPBACK}:{home.ports.front}/ws", proxy=None)
        assert raised.value.response.status_code == 502


def test_a_stream_is_passed_on_while_it_is_written(tmp_path_factory: pytest.TempPathFactory) -> None:
    home = new_home(tmp_path_factory.mktemp("stream"))
    tell_front(home, HttpApiId="0123abcd")
    first_was_read = threading.Event()

    async def events(request: Request) -> StreamingResponse:
        async def pieces() -> AsyncIterator[str]:
            yield "id: 1\ndata: {}\n\n"
            # The second piece is not written before the first has come out at the other end.
            assert await asyncio.to_thread(first_was_read.wait, 10)
            yield f"id: 2\ndata: {json.dumps(request.headers['host'])}\n\n"

        return StreamingResponse(pieces(), media_type="text/event-stream")

    upstream = Starlette(routes=[Route("/v1/events", events)])
    with (
        served(upstream, home.ports.emulator),
        served(create_app(home, REPOSITORY), home.ports.front),
        httpx.Client(trust_env=False) as client,
        client.stream("GET", f"{home.public_url}/v1/events") as answer,
    ):
        pieces = answer.iter_text()
        assert next(pieces) == "id: 1\ndata: {}\n\n"
        first_was_read.set()
        assert f"0123abcd.execute-api.localhost:{home.ports.emulator}" in next(pieces)
