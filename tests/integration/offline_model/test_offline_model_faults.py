"""The offline model's refusals, its failures on demand, and how it starts."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import openai
import pytest
from openai import OpenAI
from openai.types.chat import ChatCompletionMessageParam

REPOSITORY = Path(__file__).resolve().parents[3]
MODEL = "runyard-offline"
MESSAGES: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Hello"}]


def test_health_and_models_say_who_it_is(client: OpenAI, http: httpx.Client) -> None:
    assert http.get("/health").json() == {"status": "ok", "name": MODEL}
    assert [model.id for model in client.models.list()] == [MODEL, "runyard-offline-embed"]
    assert client.models.retrieve(MODEL).owned_by == "runyard"


def test_it_does_not_pretend_to_be_another_model(client: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as refused:
        client.chat.completions.create(model="gpt-5-mini", messages=MESSAGES)

    assert refused.value.code == "model_not_found"
    assert refused.value.param == "model"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("gpt-5-mini")


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b"{", None),
        (b"", None),
        (b"[]", None),
        (b'{"model": "runyard-offline"}', "messages"),
        (b'{"model": "runyard-offline", "messages": []}', "messages"),
        (b'{"model": "runyard-offline", "messages": [{"role": "wizard"}]}', "messages"),
        (b'{"model": "runyard-offline", "messages": [{"role": "user"}], "max_tokens": 0}', "max_tokens"),
        (b'{"model": "runyard-offline", "messages": [{"role": "user"}], "n": 2}', "n"),
    ],
)
def test_a_body_that_cannot_be_read_is_refused_in_openais_envelope(
    http: httpx.Client, body: bytes, param: str | None
) -> None:
    response = http.post("/v1/chat/completions", content=body)

    assert response.status_code == 400
    error = response.json()["error"]
    assert error["type"] == "invalid_request_error"
    assert error["message"]
    assert error["param"] in {param, "body"} if param is None else error["param"] == param


def test_a_tool_call_without_its_result_is_refused(client: OpenAI) -> None:
    call = {"id": "call_lost", "type": "function", "function": {"name": "sandbox_exec", "arguments": "{}"}}
    with pytest.raises(openai.BadRequestError, match="call_lost"):
        client.chat.completions.create(
            model=MODEL,
            messages=[*MESSAGES, {"role": "assistant", "tool_calls": [call]}, *MESSAGES],  # type: ignore[list-item]
        )
    with pytest.raises(openai.BadRequestError, match="call_unasked"):
        client.chat.completions.create(
            model=MODEL,
            messages=[*MESSAGES, {"role": "tool", "tool_call_id": "call_unasked", "content": ""}],
        )


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/v1/chat/completions", 405), ("GET", "/v1/x", 404)])
def test_an_unknown_path_or_method_is_answered_in_the_same_envelope(
    http: httpx.Client, method: str, path: str, status: int
) -> None:
    response = http.request(method, path)

    assert response.status_code == status
    assert path in response.json()["error"]["message"]


@pytest.mark.parametrize("stream", [False, True])
def test_it_answers_429_with_retry_after_on_demand(client: OpenAI, stream: bool) -> None:
    with pytest.raises(openai.RateLimitError) as refused:
        client.chat.completions.create(
            model=MODEL, messages=MESSAGES, stream=stream, extra_headers={"x-offline-fail": "429"}
        )

    assert refused.value.response.headers["retry-after"] == "1"
    assert refused.value.code == "rate_limit_exceeded"


def test_it_answers_500_on_demand_for_chat_and_embeddings(client: OpenAI) -> None:
    headers = {"x-offline-fail": "500"}
    with pytest.raises(openai.InternalServerError):
        client.chat.completions.create(model=MODEL, messages=MESSAGES, extra_headers=headers)
    with pytest.raises(openai.InternalServerError):
        client.embeddings.create(model="runyard-offline-embed", input="x", extra_headers=headers)


def test_a_directive_fails_a_conversation_without_a_header(client: OpenAI) -> None:
    with pytest.raises(openai.RateLimitError):
        client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "Go.\noffline: fail 429"}])


def test_it_never_answers_on_demand_and_serves_others_meanwhile(client: OpenAI, http: httpx.Client) -> None:
    with pytest.raises(openai.APITimeoutError):
        client.chat.completions.create(
            model=MODEL, messages=MESSAGES, extra_headers={"x-offline-fail": "timeout"}, timeout=0.5
        )
    assert http.get("/health").status_code == 200


def test_a_broken_stream_gives_half_and_then_a_cut_connection(client: OpenAI) -> None:
    whole = client.chat.completions.create(model=MODEL, messages=MESSAGES).choices[0].message.content
    assert whole is not None
    received = ""
    with client.chat.completions.create(
        model=MODEL, messages=MESSAGES, stream=True, extra_headers={"x-offline-fail": "break-stream"}
    ) as stream:

        def read_to_the_end() -> None:
            nonlocal received
            for chunk in stream:
                received += chunk.choices[0].delta.content or ""

        with pytest.raises((httpx.RemoteProtocolError, openai.APIConnectionError)):
            read_to_the_end()

    assert received
    assert whole.startswith(received)
    assert len(whole) * 0.3 < len(received) < len(whole) * 0.7


def test_a_broken_plain_answer_is_cut_in_half(http: httpx.Client) -> None:
    with pytest.raises(httpx.RemoteProtocolError):
        http.post(
            "/v1/chat/completions",
            json={"model": MODEL, "messages": MESSAGES},
            headers={"x-offline-fail": "break-stream"},
        )


def test_an_answer_is_delayed_on_demand(client: OpenAI) -> None:
    started = time.monotonic()
    client.chat.completions.create(model=MODEL, messages=MESSAGES, extra_headers={"x-offline-delay-ms": "300"})

    assert time.monotonic() - started >= 0.3


@pytest.mark.parametrize(
    "headers", [{"x-offline-fail": "418"}, {"x-offline-delay-ms": "-1"}, {"x-offline-delay-ms": "soon"}]
)
def test_a_slip_in_a_header_is_refused(client: OpenAI, headers: dict[str, str]) -> None:
    with pytest.raises(openai.BadRequestError, match="x-offline"):
        client.chat.completions.create(model=MODEL, messages=MESSAGES, extra_headers=headers)


def start(port: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "local.offline_model"],
        cwd=REPOSITORY,
        env={**os.environ, "RUNYARD_MODEL_PORT": port},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_a_taken_port_is_named_in_the_message() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        ended = start(port)

    assert ended.returncode == 1
    assert f"127.0.0.1:{port}" in ended.stderr
    assert "RUNYARD_MODEL_PORT" in ended.stderr


@pytest.mark.parametrize("port", ["seven", "70000", "-1"])
def test_a_port_that_is_none_is_named_in_the_message(port: str) -> None:
    ended = start(port)

    assert ended.returncode == 1
    assert f"RUNYARD_MODEL_PORT is {port!r}" in ended.stderr
