"""Orgs and API keys over the API, and the authorizer that stands before every route."""

from collections.abc import Callable
from typing import Any

import pytest

from functions import authorizer
from functions.api.account import handler as account
from functions.api.api_keys import handler as api_keys
from functions.api.audit import handler as audit
from functions.api.billing import handler as billing
from functions.api.orgs import handler as orgs
from shared.identity.model import KeySecret
from shared.identity.policy import KEY_SCOPES, OPERATOR_SCOPES
from shared.kernel.caller import Caller
from shared.kernel.errors import Unauthenticated, Unavailable
from shared.quotas.plans import PLANS
from tests.api_gateway import Answer, Context
from tests.services import Services

Call = Callable[..., Answer]


def admitted(key: str | None) -> Caller | None:
    """Whom the authorizer takes the bearer of this key for."""
    headers = {} if key is None else {"authorization": f"Bearer {key}"}
    answer = authorizer.handler({"headers": headers}, Context())
    return Caller.from_context(answer["context"]) if "org_id" in answer["context"] else None


def new_org(call: Call, operator: Caller, name: str = "Acme") -> dict[str, Any]:
    answer = call(orgs, "POST", "/v1/orgs", operator, json={"name": name})
    assert answer.status == 201
    created: dict[str, Any] = answer.json
    return created


def test_a_new_org_comes_with_a_key_that_is_admitted_and_with_its_plans_credits(call: Call, operator: Caller) -> None:
    created = new_org(call, operator)
    caller = admitted(created["api_key"]["secret"])
    assert caller is not None
    assert caller.scopes == KEY_SCOPES
    assert caller.role == "api"
    assert call(account, "GET", "/v1/me", caller).json["org_id"] == created["org"]["id"]
    assert call(orgs, "GET", f"/v1/orgs/{created['org']['id']}", caller).json == created["org"]
    balance = call(billing, "GET", "/v1/credits", caller).json
    assert balance["available_microusd"] == PLANS["free"].included_credits_microusd


def test_only_the_operator_creates_orgs(call: Call, org: Caller) -> None:
    assert call(orgs, "POST", "/v1/orgs", org, json={"name": "Mine"}).error == "insufficient_scope"


def test_a_taken_slug_is_refused_and_leaves_nothing(call: Call, operator: Caller) -> None:
    body = {"name": "Acme", "slug": "acme"}
    assert call(orgs, "POST", "/v1/orgs", operator, json=body).status == 201
    again = call(orgs, "POST", "/v1/orgs", operator, json=body)
    assert (again.status, again.error) == (409, "slug_taken")


def test_two_orgs_of_one_name_get_different_slugs(call: Call, operator: Caller) -> None:
    assert new_org(call, operator)["org"]["slug"] != new_org(call, operator)["org"]["slug"]


def test_a_key_with_two_scopes_has_these_and_no_more(call: Call, org: Caller) -> None:
    made = call(api_keys, "POST", "/v1/api-keys", org, json={"name": "K", "scopes": ["runs:read", "runs:write"]}).json
    caller = admitted(made["secret"])
    assert caller is not None
    assert caller.scopes == {"runs:read", "runs:write"}
    assert caller.org_id == org.org_id


def test_a_key_can_not_make_one_that_may_do_more(call: Call, org: Caller) -> None:
    small = call(api_keys, "POST", "/v1/api-keys", org, json={"name": "K", "scopes": ["keys:write"]}).json
    caller = admitted(small["secret"])
    answer = call(api_keys, "POST", "/v1/api-keys", caller, json={"name": "L", "scopes": ["runs:write"]})
    assert (answer.status, answer.json["error"]["param"]) == (400, "scopes")
    assert call(api_keys, "POST", "/v1/api-keys", caller, json={"name": "L"}).json["scopes"] == ["keys:write"]


def test_a_revoked_key_is_no_longer_admitted(call: Call, org: Caller) -> None:
    made = call(api_keys, "POST", "/v1/api-keys", org, json={"name": "K"}).json
    assert admitted(made["secret"]) is not None
    revoked = call(api_keys, "DELETE", f"/v1/api-keys/{made['id']}", org).json
    assert revoked["revoked_at"] is not None
    assert admitted(made["secret"]) is None
    assert call(api_keys, "DELETE", f"/v1/api-keys/{made['id']}", org).json["revoked_at"] == revoked["revoked_at"]


def test_an_expired_key_is_not_admitted(call: Call, org: Caller, database: str) -> None:
    from shared.kernel import db

    made = call(api_keys, "POST", "/v1/api-keys", org, json={"name": "K", "expires_at": "2999-01-01T00:00:00Z"}).json
    assert admitted(made["secret"]) is not None
    with db.tenant(org) as tx:
        tx.execute("UPDATE api_keys SET expires_at = now() - interval '1 second'")
    assert admitted(made["secret"]) is None


@pytest.mark.parametrize("when", ["2020-01-01T00:00:00Z", "yesterday", "2999-01-01T00:00:00"])
def test_an_expiry_in_the_past_or_of_no_time_zone_is_refused(call: Call, org: Caller, when: str) -> None:
    assert call(api_keys, "POST", "/v1/api-keys", org, json={"name": "K", "expires_at": when}).status == 400


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        "Basic abc",
        "Bearer ry_live_" + "a" * 32,
        "Bearer " + "x" * 1_000_000,
        "Bearer ry_live_\n" + "a" * 31,
        "Bearer ry_live_" + "é" * 32,
    ],
)
def test_what_is_no_known_key_is_not_admitted_and_not_logged(
    database: str, header: str | None, logged: Callable[[], str]
) -> None:
    headers = {} if header is None else {"Authorization": header}
    answer = authorizer.handler({"headers": headers}, Context())
    assert set(answer["context"]) == {"refusal", "refused_as"}
    with pytest.raises(Unauthenticated):
        Caller.from_context(answer["context"])
    policy = authorizer.websocket_handler({"headers": headers, "methodArn": "arn:x"}, Context())
    assert policy["policyDocument"]["Statement"][0]["Effect"] == "Deny"
    secret = (header or "").removeprefix("Bearer ").strip()
    assert not secret or secret[:40] not in logged()


def test_with_postgres_gone_a_key_is_neither_admitted_nor_called_wrong(
    call: Call, org: Caller, services: Services
) -> None:
    secret = call(api_keys, "POST", "/v1/api-keys", org, json={"name": "K"}).json["secret"]
    services.postgres.kill()
    try:
        answer = authorizer.handler({"headers": {"authorization": f"Bearer {secret}"}}, Context())
        with pytest.raises(Unavailable):
            Caller.from_context(answer["context"])
    finally:
        services.postgres.start()
    assert admitted(secret) is not None


def test_a_key_is_admitted_and_not_logged(call: Call, org: Caller, logged: Callable[[], str]) -> None:
    secret = call(api_keys, "POST", "/v1/api-keys", org, json={"name": "K"}).json["secret"]
    assert admitted(secret) is not None
    assert "authorized" in logged()
    assert secret not in logged()


def test_the_last_use_is_noted(call: Call, org: Caller) -> None:
    made = call(api_keys, "POST", "/v1/api-keys", org, json={"name": "K"}).json
    assert made["last_used_at"] is None
    admitted(made["secret"])
    listed = call(api_keys, "GET", "/v1/api-keys", org).json["data"]
    assert next(key for key in listed if key["id"] == made["id"])["last_used_at"] is not None


def test_a_listed_key_shows_its_hint_and_never_its_secret(call: Call, org: Caller) -> None:
    made = call(api_keys, "POST", "/v1/api-keys", org, json={"name": "K"}).json
    listed = call(api_keys, "GET", "/v1/api-keys", org)
    assert made["secret"] not in listed.text
    assert made["hint"] in listed.text.encode().decode("unicode_escape") or made["hint"] in listed.text


def test_everything_done_to_keys_is_in_the_audit_trail(call: Call, org: Caller) -> None:
    made = call(api_keys, "POST", "/v1/api-keys", org, json={"name": "K"}).json
    call(api_keys, "DELETE", f"/v1/api-keys/{made['id']}", org)
    events = call(audit, "GET", f"/v1/audit-events?resource_id={made['id']}", org).json["data"]
    assert [event["action"] for event in events] == ["api_key.revoke", "api_key.create"]
    assert {event["actor"] for event in events} == {org.actor_id}
    assert made["secret"] not in str(events)


def test_registering_the_operator_again_keeps_its_key_and_a_new_one_replaces_it(database: str) -> None:
    from shared.identity import service

    first = service.operator_key("")
    service.register_operator(first)
    service.register_operator(service.operator_key(first.text))
    caller = admitted(first.text)
    assert caller is not None
    assert caller.scopes == OPERATOR_SCOPES
    second = KeySecret.generate()
    service.register_operator(second)
    assert admitted(first.text) is None
    assert admitted(second.text) is not None
