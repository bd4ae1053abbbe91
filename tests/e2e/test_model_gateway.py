"""The model gateway through the front door: streams as they are made, secrets that stay secret, rivals kept apart."""

import time
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import openai
import pytest
from openai import OpenAI

from tests.e2e.deployed import Deployed
from tests.e2e.tenant import Tenant, success
from tests.waiting import until


@pytest.fixture
def client(home: Deployed, tenant: Tenant) -> OpenAI:
    return OpenAI(base_url=f"{home.home.public_url}/v1", api_key=tenant.key, max_retries=0)


def told(*lines: str) -> Any:
    """Return messages that direct the offline model, as the client takes them."""
    return [{"role": "user", "content": "\n".join(f"offline: {line}" for line in lines)}]


def test_words_arrive_while_the_model_is_still_speaking(client: OpenAI, tenant: Tenant) -> None:
    stream = client.chat.completions.create(
        model="runyard-offline",
        messages=told("say one two three four five six seven eight", "pace 150"),
        stream=True,
        stream_options={"include_usage": True},
    )
    began = time.monotonic()
    arrived = [(time.monotonic() - began, chunk) for chunk in stream]

    words = [at for at, chunk in arrived if chunk.choices and chunk.choices[0].delta.content]
    assert len(words) >= 4
    # Had anything on the way held them back, all would have come at once.
    assert words[-1] - words[0] > 0.3
    usage = arrived[-1][1].usage
    assert usage is not None
    assert usage.completion_tokens > 0


def test_who_hangs_up_pays_for_what_was_said_and_no_more(client: OpenAI, tenant: Tenant) -> None:
    before = tenant.balance()["settled_microusd"]
    words = " ".join(["word"] * 400)
    stream = client.chat.completions.create(
        model="runyard-offline",
        messages=told(f"say {words}", "pace 50"),
        stream=True,
    )
    for _ in range(4):
        next(stream)
    stream.close()

    call = until(
        lambda: next(
            (call for call in tenant.get("/v1/inference/calls")["data"] if call["outcome"] == "cancelled"), None
        ),
        "the cancelled call",
        within_s=10,
    )
    assert call["estimated"] is True
    assert 1 <= call["tokens"]["output"] < 200
    assert tenant.balance()["settled_microusd"] - before == call["cost_microusd"] > 0
    assert tenant.balance()["held_microusd"] == 0


@pytest.mark.parametrize(
    ("directive", "error"),
    [("fail 429", openai.RateLimitError), ("fail 500", openai.InternalServerError)],
    ids=["429", "500"],
)
def test_a_failing_provider_arrives_as_the_clients_own_exception(
    client: OpenAI, directive: str, error: type[openai.APIStatusError]
) -> None:
    with pytest.raises(error) as raised:
        client.chat.completions.create(model="runyard-offline", messages=told(directive, f"say {uuid4()}"))

    assert raised.value.request_id
    assert raised.value.code in {"provider_rate_limited", "provider_failed"}


def test_a_rival_with_the_same_prompt_is_served_nothing_of_ours(home: Deployed, tenant: Tenant) -> None:
    rival = home.tenant("Rival")
    body = {"messages": [{"role": "user", "content": f"The secret of {uuid4()}"}]}

    def ask(who: Tenant) -> httpx.Response:
        return success(who.http.post("/v1/chat/completions", json=body))

    first, again, theirs = ask(tenant), ask(tenant), ask(rival)

    assert [answer.headers["x-runyard-cache"] for answer in (first, again, theirs)] == ["miss", "hit", "miss"]
    assert again.headers["x-runyard-cost-microusd"] == "0"
    assert again.json()["choices"] == first.json()["choices"]
    assert int(theirs.headers["x-runyard-cost-microusd"]) > 0


def test_a_providers_key_is_nowhere_but_in_the_store_of_secrets(home: Deployed, tenant: Tenant) -> None:
    canaries = [f"sk-canary-{uuid4().hex}", f"sk-canary-{uuid4().hex}"]
    provider = tenant.post(
        "/v1/inference/providers",
        {
            "name": "mine",
            "kind": "openai",
            "base_url": f"http://127.0.0.1:{home.home.ports.model}/v1",
            "api_key": canaries[0],
            "models": ["runyard-offline"],
        },
    )
    shown = [str(provider)]
    for number, directive in enumerate(("say hello", "fail 500", "fail 429", "fail break-stream")):
        for stream in (False, True):
            answer = tenant.http.post(
                "/v1/chat/completions",
                json={
                    "model": "mine/runyard-offline",
                    "messages": told(directive, f"say {number}"),
                    "stream": stream,
                },
            )
            shown += [answer.text, str(answer.headers)]
    rotated = tenant.post(f"/v1/inference/providers/{provider['id']}/rotate", {"api_key": canaries[1]})
    assert rotated["key_hint"] == canaries[1][-4:]
    shown += [str(rotated), str(tenant.get("/v1/inference/providers")), str(tenant.get("/v1/audit-events"))]
    shown += [str(tenant.post(f"/v1/inference/providers/{provider['id']}/check"))]
    shown += [str(tenant.get("/v1/inference/calls")), str(tenant.get("/v1/inference/health"))]

    assert not [text for text in shown for canary in canaries if canary in text]
    leaks = [str(file) for canary in canaries for file in _files_with(home.home.folder, canary.encode())]
    # The emulator's own state is where its Secrets Manager keeps them.
    assert [leak for leak in leaks if "/state/emulator" not in leak] == []


def _files_with(folder: Path, text: bytes) -> list[Path]:
    return [file for file in folder.rglob("*") if file.is_file() and not file.is_symlink() and _holds(file, text)]


def _holds(file: Path, text: bytes) -> bool:
    try:
        with file.open("rb") as opened:
            kept = b""
            while piece := opened.read(1 << 20):
                if text in kept + piece:
                    return True
                kept = piece[-len(text) :]
    except OSError:
        return False
    return False
