"""HTTP API of providers: their keys are stored apart, shown to nobody, and never left behind or lost."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from functions.api import inference_setup
from shared.inference import accounts, accounts_model
from shared.kernel import aws, clock, db, ids, secrets, settings
from shared.kernel.caller import Caller
from shared.kernel.errors import Unavailable
from tests.integration.inference.provider_setup import BODY, KEY, Call, begun, secrets_of, stored
from tests.integration.inference.provider_setup import ask as ask


def test_a_provider_is_kept_and_its_key_apart(ask: Call, org: Caller) -> None:
    made = ask("POST", json=BODY)
    assert made.status == 201, made.text
    shown = made.json
    assert shown["id"].startswith("prv_")
    assert (shown["base_url"], shown["models"], shown["enabled"]) == ("https://api.example.com/v1", ["m"], True)
    assert shown["key_hint"] == KEY[-4:]
    assert shown["rotated_at"] is not None
    assert ask("GET", f"/{shown['id']}").json == shown
    assert ask("GET").json["data"] == [shown]
    assert stored(org, shown["id"]) == KEY
    client = aws.client("secretsmanager")
    described = client.describe_secret(SecretId=secrets_of(org)[0])
    assert described["KmsKeyId"] == settings.provider_secrets().encryption_key_arn


@pytest.mark.parametrize(("length", "hint"), [(15, ""), (16, "last"), (200, "last")])
def test_of_a_short_key_nothing_is_shown(ask: Call, length: int, hint: str) -> None:
    key = "k" * (length - 4) + "last"
    assert ask("POST", json=BODY | {"api_key": key}).json["key_hint"] == hint


def test_a_server_without_keys_needs_no_secret(ask: Call, org: Caller) -> None:
    made = ask("POST", json={key: value for key, value in BODY.items() if key != "api_key"}).json
    assert (made["enabled"], made["key_hint"], made["rotated_at"]) == (True, "", None)
    assert secrets_of(org) == []
    assert ask("POST", f"/{made['id']}/rotate", json={"api_key": KEY}).status == 400


def test_a_key_is_nowhere_but_where_it_belongs(
    ask: Call, org: Caller, logged: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = ask("POST", json=BODY, headers={"idempotency-key": "k"})
    answers = [
        made,
        ask("POST", json=BODY, headers={"idempotency-key": "k"}),
        ask("POST", json=BODY),
        ask("POST", json=BODY | {"name": "NO"}),
        ask("POST", json=BODY | {"api_key": f"{KEY} "}),
        ask("POST", f"/{made.json['id']}/rotate", json={"api_key": KEY}),
        ask("PATCH", f"/{made.json['id']}", json={"enabled": False, "api_key": KEY}),
        ask("GET", f"/{made.json['id']}"),
        ask("GET"),
    ]
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    aws.client.cache_clear()
    failed = ask("POST", f"/{made.json['id']}/rotate", json={"api_key": KEY})
    assert (failed.status, failed.error) == (503, "unavailable")
    assert [answer.text for answer in [*answers, failed] if KEY in answer.text] == []
    assert KEY not in logged()
    with db.tenant(org) as tx:
        for table in ("inference_providers", "audit_events", "idempotency_keys"):
            rows = tx.execute(f"SELECT row_to_json(t)::text AS row FROM {table} t").fetchall()
            assert rows
            assert [row for row in rows if KEY in row["row"]] == []


def test_a_rotated_key_takes_the_place_of_the_old_one(ask: Call, org: Caller) -> None:
    made = ask("POST", json=BODY).json
    rotated = ask("POST", f"/{made['id']}/rotate", json={"api_key": "sk-another-key-0123"})
    assert rotated.status == 200
    assert rotated.json["key_hint"] == "0123"
    assert rotated.json["rotated_at"] > made["rotated_at"]
    assert stored(org, made["id"]) == "sk-another-key-0123"
    assert len(secrets_of(org)) == 1


def test_rotating_leaves_a_disabled_provider_disabled(ask: Call) -> None:
    made = ask("POST", json=BODY | {"enabled": False}).json
    assert made["enabled"] is False
    assert ask("POST", f"/{made['id']}/rotate", json={"api_key": KEY}).json["enabled"] is False


def test_what_is_changed_changes_and_the_rest_stays(ask: Call) -> None:
    made = ask("POST", json=BODY).json
    changed = ask("PATCH", f"/{made['id']}", json={"models": ["a", "b"]}).json
    assert (changed["models"], changed["enabled"], changed["key_hint"]) == (["a", "b"], True, made["key_hint"])
    assert ask("PATCH", f"/{made['id']}", json={"enabled": False}).json["models"] == ["a", "b"]
    assert ask("GET", f"/{made['id']}").json["enabled"] is False


def test_the_parameters_that_a_provider_is_given_are_listed_and_told_in_the_trail(ask: Call, org: Caller) -> None:
    made = ask("POST", json=BODY | {"parameters": ["top_k", "min_p"]}).json
    assert made["parameters"] == ["top_k", "min_p"]
    assert ask("PATCH", f"/{made['id']}", json={"enabled": True}).json["parameters"] == ["top_k", "min_p"]
    assert ask("PATCH", f"/{made['id']}", json={"parameters": ["provider"]}).json["parameters"] == ["provider"]
    assert ask("GET", f"/{made['id']}").json["parameters"] == ["provider"]
    with db.tenant(org) as tx:
        rows = tx.execute("SELECT new FROM audit_events WHERE action = 'provider.update' ORDER BY id").fetchall()
    assert [row["new"]["parameters"] for row in rows] == [["top_k", "min_p"], ["provider"]]
    assert ask("PATCH", f"/{made['id']}", json={"parameters": []}).json["parameters"] == []


@pytest.mark.parametrize(
    "names",
    [
        ["temperature"],
        ["top_k", "stream"],
        ["messages"],
        [""],
        ["a b"],
        ["x" * 65],
        ["a\x00"],
        [f"p{n}" for n in range(51)],
    ],
    ids=["known", "known too", "messages", "nameless", "two words", "long", "NUL", "many"],
)
def test_what_every_provider_is_given_or_is_no_name_is_no_such_parameter(ask: Call, names: list[str]) -> None:
    made = ask("POST", json=BODY).json
    for refused in (
        ask("POST", json=BODY | {"name": "other", "parameters": names}),
        ask("PATCH", f"/{made['id']}", json={"parameters": names}),
    ):
        assert (refused.status, refused.error) == (400, "invalid_request")
    assert [each["parameters"] for each in ask("GET").json["data"]] == [[]]


def test_a_parameter_that_every_provider_is_given_is_named(ask: Call) -> None:
    refused = ask("POST", json=BODY | {"parameters": ["top_k", "temperature"]}).json["error"]
    assert refused["message"].startswith("parameters: every provider is given temperature;")


@pytest.mark.parametrize("field", ["base_url", "kind", "name", "api_key", "region"])
def test_where_a_key_is_sent_cannot_be_changed(ask: Call, field: str) -> None:
    made = ask("POST", json=BODY).json
    assert ask("PATCH", f"/{made['id']}", json={field: "https://attacker.example.com"}).status == 400


def test_a_deleted_provider_takes_its_key_along(ask: Call, org: Caller) -> None:
    made = ask("POST", json=BODY).json
    assert ask("DELETE", f"/{made['id']}").status == 204
    assert secrets_of(org) == []
    assert ask("GET", f"/{made['id']}").status == 404
    assert ask("POST", f"/{made['id']}/rotate", json={"api_key": KEY}).status == 404
    assert secrets_of(org) == []
    assert ask("POST", json=BODY).status == 201


@pytest.mark.parametrize("place", ["candidates", "judge"])
def test_a_provider_that_a_route_names_stays(ask: Call, call: Call, org: Caller, place: str) -> None:
    made = ask("POST", json=BODY).json
    assert ask("POST", json=BODY | {"name": "min"}).status == 201
    candidates = ["gpt-5-mini", "gpt-5-mini" if place == "judge" else "mine/x"]
    route: dict[str, Any] = {"name": "r", "candidates": [{"model": model} for model in candidates]}
    if place == "judge":
        route["ensemble"] = {"n": 2, "judge": "mine/x"}
    kept = call(inference_setup.handler, "POST", "/v1/inference/routes", org, json=route)
    assert kept.status == 201, kept.text
    refused = ask("DELETE", f"/{made['id']}")
    assert (refused.status, refused.error) == (409, "provider_in_use")
    assert stored(org, made["id"]) == KEY
    other = next(each for each in ask("GET").json["data"] if each["name"] == "min")
    assert ask("DELETE", f"/{other['id']}").status == 204
    assert call(inference_setup.handler, "DELETE", f"/v1/inference/routes/{kept.json['id']}", org).status == 204
    assert ask("DELETE", f"/{made['id']}").status == 204


REFUSED: dict[str, dict[str, Any]] = {
    "no address": {"base_url": ""},
    "no URL": {"base_url": "api.example.com"},
    "a user in it": {"base_url": "https://user@api.example.com/v1"},
    "a query": {"base_url": "https://api.example.com/v1?key=1"},
    "metadata of the cloud": {"base_url": "http://169.254.169.254/v1"},
    "no kind": {"kind": "smoke"},
    "a region": {"region": "us-east-1"},
    "a name with a slash": {"name": "a/b"},
    "a long name": {"name": "x" * 33},
    "a key with a space": {"api_key": "a b"},
    "a key with a line's end": {"api_key": "sk-1\r\nX-Evil: 1"},
    "an empty key": {"api_key": ""},
    "Bedrock": {"kind": "bedrock", "base_url": "", "region": "us-east-1", "api_key": None},
    "Anthropic without a key": {"kind": "anthropic", "api_key": None},
}


@pytest.mark.parametrize("given", REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_asked_is_refused(ask: Call, org: Caller, given: dict[str, Any]) -> None:
    answer = ask("POST", json=BODY | given)
    assert answer.status == 400, answer.text
    assert ask("GET").json["data"] == []
    assert secrets_of(org) == []


@pytest.mark.parametrize(
    "url", ["http://api.example.com/v1", "https://127.0.0.1/v1", "https://10.0.0.1", "https://[::1]/v1"]
)
def test_away_from_home_a_provider_is_at_a_public_address(ask: Call, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    assert ask("POST", json=BODY | {"base_url": url}).status == 201
    monkeypatch.setenv("RUNYARD_PRIVATE_PROVIDERS", "0")
    settings.forget()
    refused = ask("POST", json=BODY | {"name": "other", "base_url": url})
    assert (refused.status, refused.error) == (400, "provider_address_refused")


def test_anthropic_has_an_address_of_its_own(ask: Call) -> None:
    assert ask("POST", json=BODY | {"kind": "anthropic", "base_url": ""}).status == 201


def test_bedrock_is_set_up_by_the_operator_alone(ask: Call, operator: Caller, org: Caller) -> None:
    body = {"name": "aws", "kind": "bedrock", "region": "us-east-1", "models": ["claude"]}
    assert ask("POST", json=body).status == 400
    assert ask("POST", caller=operator, json=body).status == 201
    for given in ({"api_key": KEY}, {"base_url": "https://b.test"}, {"region": ""}):
        assert ask("POST", caller=operator, json=body | {"name": "other"} | given).status == 400


def test_a_name_is_given_once(ask: Call, org: Caller, rival: Caller) -> None:
    ask("POST", json=BODY)
    again = ask("POST", json=BODY | {"api_key": "sk-another-key-0123"})
    assert (again.status, again.error) == (409, "provider_name_taken")
    assert len(secrets_of(org)) == 1
    assert ask("POST", caller=rival, json=BODY).status == 201


def test_the_same_request_sent_again_makes_one_provider(ask: Call, org: Caller) -> None:
    first, again = (ask("POST", json=BODY, headers={"idempotency-key": "k"}) for _ in range(2))
    assert (first.status, again.status) == (201, 201)
    assert first.json == again.json
    assert again.headers["idempotency-replayed"] == "true"
    assert len(secrets_of(org)) == 1


def test_when_the_key_cannot_be_stored_nothing_is_left(ask: Call, org: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(name: str, value: str, *, encryption_key_arn: str) -> None:
        raise Unavailable("not now")

    with monkeypatch.context() as patched:
        patched.setattr(secrets, "keep", failing)
        assert ask("POST", json=BODY, headers={"idempotency-key": "k"}).status == 503
    assert ask("GET").json["data"] == []
    assert ask("POST", json=BODY, headers={"idempotency-key": "k"}).status == 201


@pytest.mark.parametrize("after", [False, True], ids=["before the secret", "after the secret"])
def test_a_creation_that_was_cut_short_is_gone_on_with(
    ask: Call, org: Caller, monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    left = begun(org)
    shown = ids.show("prv", left.id)
    if after:
        secrets.keep(left.secret, KEY, encryption_key_arn=settings.provider_secrets().encryption_key_arn)
    found = ask("GET", f"/{shown}").json
    assert (found["enabled"], found["rotated_at"], found["key_hint"]) == (False, None, ""), "not asked without a key"
    assert ask("PATCH", f"/{shown}", json={"enabled": True}).error == "provider_without_key"
    assert ask("POST", json=BODY).error == "provider_name_taken", "somebody may be at it still"

    later = clock.now() + accounts_model._GIVEN_UP_AFTER * 1.1
    monkeypatch.setattr(clock, "now", lambda: later)
    made = ask("POST", json=BODY)
    assert made.status == 201, made.text
    assert stored(org, made.json["id"]) == KEY
    assert len(secrets_of(org)) == 1
    assert [each["id"] for each in ask("GET").json["data"]] == [made.json["id"]]


def test_what_was_cut_short_can_be_finished_by_hand_or_deleted(ask: Call, org: Caller) -> None:
    shown = ids.show("prv", begun(org).id)
    rotated = ask("POST", f"/{shown}/rotate", json={"api_key": KEY}).json
    assert (rotated["enabled"], rotated["key_hint"]) == (True, KEY[-4:])
    other = begun(org, name="other")
    assert ask("DELETE", f"/{ids.show('prv', other.id)}").status == 204


def test_a_provider_that_got_its_key_after_all_is_not_undone(ask: Call, org: Caller) -> None:
    made = ask("POST", json=BODY).json
    with db.tenant(org) as tx:
        accounts.abandon_account(tx, org, provider_id=ids.read("prv", made["id"]))
    assert stored(org, made["id"]) == KEY


def test_a_rivals_provider_does_not_exist(ask: Call, org: Caller, rival: Caller) -> None:
    made = ask("POST", json=BODY).json
    for method, path, given in (
        ("GET", "", None),
        ("PATCH", "", {"enabled": False}),
        ("DELETE", "", None),
        ("POST", "/rotate", {"api_key": "sk-theirs"}),
        ("POST", "/check", None),
    ):
        assert ask(method, f"/{made['id']}{path}", caller=rival, json=given).status == 404
    assert ask("GET", caller=rival).json["data"] == []
    assert stored(org, made["id"]) == KEY


def test_only_who_may_administrate_inference_sets_providers_up(ask: Call, org: Caller) -> None:
    reader = replace(org, scopes=org.scopes - {"inference:admin"})
    assert ask("POST", caller=reader, json=BODY).status == 403
    assert ask("GET", caller=reader).status == 200


def test_there_is_an_end_to_how_many_there_can_be(ask: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accounts, "MOST_PROVIDERS", 1)
    assert ask("POST", json=BODY).status == 201
    assert ask("POST", json=BODY | {"name": "other"}).error == "setup_limit_reached"
