"""Asking a provider whether it takes the key that is stored for it; how models are doing."""

import json
from collections.abc import Iterator
from contextlib import contextmanager

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route as HttpRoute

from functions.api import providers as api
from shared.kernel import ids
from shared.kernel.caller import Caller
from tests.http_server import listening
from tests.integration.inference.provider_setup import BODY, KEY, Call, begun
from tests.integration.inference.provider_setup import ask as ask


@contextmanager
def server(key: str) -> Iterator[str]:
    """A provider that takes this key alone."""

    async def models(request: Request) -> JSONResponse:
        if request.headers.get("authorization") != f"Bearer {key}":
            return JSONResponse({"error": {"message": f"wrong key {request.headers}", "code": "invalid"}}, 401)
        data = [{"id": name, "object": "model", "created": 0, "owned_by": "x"} for name in ("a", "b")]
        return JSONResponse({"object": "list", "data": data})

    with listening(Starlette(routes=[HttpRoute("/v1/models", models)])) as url:
        yield f"{url}/v1"


def test_a_check_tells_whether_the_provider_takes_the_key(ask: Call) -> None:
    with server("sk-the-right-one-1") as url:
        made = ask("POST", json=BODY | {"base_url": url}).json
        wrong = ask("POST", f"/{made['id']}/check")
        assert wrong.status == 200, wrong.text
        assert (wrong.json["ok"], wrong.json["error"], wrong.json["models"]) == (False, "provider_misconfigured", [])
        assert KEY not in wrong.text
        ask("POST", f"/{made['id']}/rotate", json={"api_key": "sk-the-right-one-1"})
        right = ask("POST", f"/{made['id']}/check").json
        assert right == {"object": "provider_check", "ok": True, "error": None, "message": None, "models": ["a", "b"]}


def test_a_check_tells_that_nobody_answers(ask: Call) -> None:
    made = ask("POST", json=BODY | {"base_url": "http://127.0.0.1:9/v1"}).json
    found = ask("POST", f"/{made['id']}/check").json
    assert (found["ok"], found["error"]) == (False, "provider_unreachable")


def test_what_has_no_key_yet_is_not_asked(ask: Call, org: Caller) -> None:
    assert ask("POST", f"/{ids.show('prv', begun(org).id)}/check").error == "provider_without_key"


def test_health_tells_of_the_models_that_the_org_can_ask(call: Call, ask: Call, org: Caller, rival: Caller) -> None:
    ask("POST", json=BODY)
    ask("POST", caller=rival, json=BODY | {"name": "theirs"})
    found = call(api.handler, "GET", "/v1/inference/health", org)
    assert found.status == 200, found.text
    assert {(each["model"], each["breaker"]) for each in found.json["data"]} == {
        ("runyard-offline", "closed"),
        ("mine/m", "closed"),
    }
    assert "theirs" not in json.dumps(found.json)
