"""HTTP API of routes: what can be written, what is refused and why, and who may."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from functions.api import inference_setup as api
from shared.inference import accounts, routes, routes_model
from shared.inference.config import ProviderKind
from shared.kernel import db, ids
from shared.kernel.caller import Caller
from tests.api_gateway import Answer

type Call = Callable[..., Answer]
PATH = "/v1/inference/routes"
SIMPLE: dict[str, Any] = {"name": "draft", "candidates": [{"model": "gpt-5-mini"}]}
FULL: dict[str, Any] = {
    "name": "careful",
    "candidates": [
        {
            "model": "gpt-5-mini",
            "weight": 3,
            "when": {
                "tasks": ["chat", "draft"],
                "min_input_tokens": 1,
                "max_input_tokens": 1000,
                "tools": False,
                "images": True,
                "max_price_microusd": 500,
                "max_latency_ms": 800,
            },
            "timeout_s": 2.5,
            "first_token_s": 1.0,
        },
        {"model": "runyard-offline"},
    ],
    "strategy": "weighted",
    "fall_back_on": ["rate_limited", "timeout"],
    "max_attempts": 2,
    "ensemble": {"n": 2, "judge": "gpt-5-mini"},
}


@pytest.fixture
def ask(call: Call, org: Caller) -> Call:
    def asked(method: str, path: str = "", caller: Caller = org, **given: Any) -> Answer:
        return call(api.handler, method, PATH + path, caller, **given)

    return asked


def provider(caller: Caller, name: str, *models: str) -> None:
    with db.tenant(caller) as tx:
        accounts.begin_account(
            tx,
            caller,
            name=name,
            kind=ProviderKind.OPENAI,
            base_url="https://p.test/v1",
            region="",
            models=models,
            parameters=(),
            enabled=True,
            api_key=None,
        )


def test_a_route_is_kept_as_it_was_written(ask: Call, org: Caller) -> None:
    made = ask("POST", json=FULL)
    assert made.status == 201, made.text
    assert made.json["id"].startswith("rte_")
    assert (made.json["object"], made.json["version"], made.json["created_by"]) == ("route", 1, org.actor_id)
    assert made.json["candidates"][0] == FULL["candidates"][0]
    assert made.json | {"candidates": FULL["candidates"]} == made.json | FULL
    assert ask("GET", f"/{made.json['id']}").json == made.json
    assert ask("GET").json["data"] == [made.json]


def test_what_is_left_out_takes_its_default(ask: Call) -> None:
    made = ask("POST", json=SIMPLE).json
    assert made["strategy"] == "ordered"
    assert made["max_attempts"] == 3
    assert made["ensemble"] is None
    assert sorted(made["fall_back_on"]) == [
        "context_length",
        "misconfigured",
        "rate_limited",
        "server_error",
        "timeout",
    ]
    assert made["candidates"][0]["weight"] == 1


def test_replacing_a_route_counts_its_versions(ask: Call) -> None:
    route = ask("POST", json=SIMPLE).json
    replaced = ask("PUT", f"/{route['id']}", json=FULL)
    assert replaced.status == 200, replaced.text
    assert (replaced.json["id"], replaced.json["name"], replaced.json["version"]) == (route["id"], "careful", 2)
    assert ask("PUT", f"/{route['id']}", json=SIMPLE).json["version"] == 3
    assert ask("GET", f"/{route['id']}").json["ensemble"] is None, "nothing of the version before is left"


def test_a_deleted_route_is_gone_and_its_name_is_free(ask: Call) -> None:
    route = ask("POST", json=SIMPLE).json
    assert ask("DELETE", f"/{route['id']}").status == 204
    for method, given in (("GET", None), ("PUT", SIMPLE), ("DELETE", None)):
        assert ask(method, f"/{route['id']}", json=given).status == 404
    assert ask("POST", json=SIMPLE).status == 201


def test_a_name_is_given_once(ask: Call, rival: Caller) -> None:
    assert ask("POST", json=SIMPLE).status == 201
    again = ask("POST", json=SIMPLE)
    assert (again.status, again.error) == (409, "route_name_taken")
    other = ask("POST", json=SIMPLE | {"name": "other"}).json
    assert ask("PUT", f"/{other['id']}", json=SIMPLE).error == "route_name_taken"
    assert ask("POST", caller=rival, json=SIMPLE).status == 201


@pytest.mark.parametrize("name", ["gpt-5-mini", "runyard-offline"])
def test_no_route_is_called_like_a_model(ask: Call, name: str) -> None:
    assert ask("POST", json=SIMPLE | {"name": name}).error == "route_name_taken"


def test_no_route_is_called_like_a_model_of_the_orgs_own_provider(ask: Call, org: Caller) -> None:
    provider(org, "mine", "house-model")
    assert ask("POST", json=SIMPLE | {"name": "house-model"}).error == "route_name_taken"


@pytest.mark.parametrize("name", ["", "Draft", "a/b", "a b", "x" * 65, "draft\n", "ä"])
def test_a_name_is_of_few_characters(ask: Call, name: str) -> None:
    assert ask("POST", json=SIMPLE | {"name": name}).status == 400


def candidates(*models: str, **more: Any) -> dict[str, Any]:
    return SIMPLE | {"candidates": [{"model": model} | more for model in models]}


REFUSED: dict[str, dict[str, Any]] = {
    "none": SIMPLE | {"candidates": []},
    "too many": candidates(*["gpt-5-mini"] * 17),
    "unknown": candidates("gpt-5-mini", "gpt-unknown"),
    "of an unknown provider": candidates("nobody/gpt-5-mini"),
    "a route": candidates("draft"),
    "the entry for models without one": candidates("unlisted"),
    "too heavy": candidates("gpt-5-mini", weight=1001),
    "below zero": candidates("gpt-5-mini", weight=-1),
    "no weight at all": candidates("gpt-5-mini", weight=0) | {"strategy": "weighted"},
    "fit for nothing": candidates("gpt-5-mini", when={"min_input_tokens": 5, "max_input_tokens": 4}),
    "no time": candidates("gpt-5-mini", timeout_s=0),
    "a judge nobody knows": candidates("gpt-5-mini", "gpt-5-mini") | {"ensemble": {"n": 2, "judge": "who"}},
    "more answers than candidates": SIMPLE | {"ensemble": {"n": 2, "judge": "gpt-5-mini"}},
    "a fault nobody knows": SIMPLE | {"fall_back_on": ["boredom"]},
    "a field nobody knows": SIMPLE | {"fallback": []},
    "no attempt": SIMPLE | {"max_attempts": 0},
}


@pytest.mark.parametrize("body", REFUSED.values(), ids=REFUSED)
def test_a_policy_that_cannot_work_is_refused(ask: Call, body: dict[str, Any]) -> None:
    route = ask("POST", json=SIMPLE | {"name": "fine"}).json
    for answer in (ask("POST", json=body), ask("PUT", f"/{route['id']}", json=body)):
        assert (answer.status, answer.error) == (400, "invalid_request"), answer.text
    assert ask("GET", f"/{route['id']}").json == route


def test_an_unknown_model_is_refused_with_those_that_are_known(ask: Call, org: Caller, operator: Caller) -> None:
    provider(org, "mine")
    provider(operator, "everybodys")
    told = ask("POST", json=candidates("gpt-unknown")).json["error"]["message"]
    assert "'gpt-unknown'" in told
    for known in ("gpt-5-mini", "runyard-offline", "mine/…", "everybodys/…"):
        assert known in told


def test_providers_models_can_be_candidates(ask: Call, org: Caller, rival: Caller, operator: Caller) -> None:
    provider(org, "mine", "house-model")
    provider(operator, "everybodys", "x")
    for model in ("mine/any-name/at-all", "house-model", "everybodys/gpt-5-mini"):
        made = ask("POST", json=candidates(model) | {"name": f"r{abs(hash(model))}"})
        assert made.status == 201, made.text
    assert ask("POST", json=candidates("everybodys/unpriced")).status == 400
    assert ask("POST", json=candidates("mine/")).status == 400
    assert ask("POST", caller=rival, json=candidates("mine/any-name")).status == 400


def test_there_is_an_end_to_how_many_there_can_be(ask: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    assert routes_model.MOST_ROUTES == 200
    monkeypatch.setattr(routes, "MOST_ROUTES", 1)
    assert ask("POST", json=SIMPLE).status == 201
    refused = ask("POST", json=SIMPLE | {"name": "other"})
    assert (refused.status, refused.error) == (403, "setup_limit_reached")


def test_routes_are_listed_in_pages(ask: Call) -> None:
    made = [ask("POST", json=SIMPLE | {"name": f"r{number}"}).json["id"] for number in range(3)]
    page = ask("GET", "?limit=2").json
    assert [each["id"] for each in page["data"]] == [made[2], made[1]]
    rest = ask("GET", f"?limit=2&cursor={page['next_cursor']}").json
    assert ([each["id"] for each in rest["data"]], rest["has_more"]) == ([made[0]], False)


def test_the_same_request_sent_again_makes_one_route(ask: Call) -> None:
    first, again = (ask("POST", json=SIMPLE, headers={"idempotency-key": "k"}) for _ in range(2))
    assert (first.status, again.status) == (201, 201)
    assert first.json == again.json
    assert len(ask("GET").json["data"]) == 1


def test_a_rivals_route_does_not_exist(ask: Call, rival: Caller) -> None:
    route = ask("POST", json=SIMPLE).json
    for method, given in (("GET", None), ("PUT", SIMPLE), ("DELETE", None)):
        assert ask(method, f"/{route['id']}", caller=rival, json=given).status == 404
    assert ask("GET", caller=rival).json["data"] == []
    assert ask("GET", f"/{ids.show('rte', ids.new())}").status == 404


def test_only_who_may_administrate_inference_writes_routes(ask: Call, org: Caller) -> None:
    reader = replace(org, scopes=org.scopes - {"inference:admin"})
    assert ask("POST", caller=reader, json=SIMPLE).status == 403
    assert ask("GET", caller=reader).status == 200
