"""Service accounts own keys, and bound what these may do."""

from collections.abc import Callable
from typing import Any

import pytest

from functions import authorizer
from functions.api.api_keys import handler as api_keys
from functions.api.audit import handler as audit
from shared.identity.policy import KEY_SCOPES
from shared.kernel import ids
from shared.kernel.caller import Caller
from tests.api_gateway import Answer, Context

Call = Callable[..., Answer]
ACCOUNTS = "/v1/service-accounts"


def context_of(secret: str) -> dict[str, Any]:
    """What the authorizer hands on about the bearer of this key."""
    answer = authorizer.handler({"headers": {"authorization": f"Bearer {secret}"}}, Context())
    found: dict[str, Any] = answer["context"]
    return found


def scopes_of(secret: str) -> set[str]:
    return set(context_of(secret)["scopes"].split())


def bearer(secret: str) -> Caller:
    return Caller.from_context(context_of(secret))


def new_account(call: Call, caller: Caller, **fields: Any) -> dict[str, Any]:
    answer = call(api_keys, "POST", ACCOUNTS, caller, json={"name": "Deployer", **fields})
    assert answer.status == 201, answer.text
    made: dict[str, Any] = answer.json
    return made


def key_of(call: Call, caller: Caller, account: dict[str, Any], **fields: Any) -> Answer:
    body = {"name": "K", "service_account_id": account["id"], **fields}
    return call(api_keys, "POST", "/v1/api-keys", caller, json=body)


def change(call: Call, caller: Caller, account: dict[str, Any], **fields: Any) -> Answer:
    return call(api_keys, "PATCH", f"{ACCOUNTS}/{account['id']}", caller, json=fields)


def test_a_service_account_can_be_made_read_changed_and_listed(call: Call, org: Caller) -> None:
    made = new_account(call, org, scopes=["runs:read"], metadata={"a": "1"})
    assert made["created_by"] == org.actor_id
    assert call(api_keys, "GET", f"{ACCOUNTS}/{made['id']}", org).json == made
    changed = change(call, org, made, name="Robot").json
    assert changed == made | {"name": "Robot"}
    others = [new_account(call, org)["id"] for _ in range(2)]
    first = call(api_keys, "GET", f"{ACCOUNTS}?limit=2", org).json
    rest = call(api_keys, "GET", f"{ACCOUNTS}?limit=2&cursor={first['next_cursor']}", org).json
    assert [each["id"] for each in first["data"] + rest["data"]] == [*others[::-1], made["id"]]


def test_by_default_an_account_and_its_keys_have_all_that_a_key_can_have(call: Call, org: Caller) -> None:
    account = new_account(call, org)
    assert set(account["scopes"]) == KEY_SCOPES
    assert scopes_of(key_of(call, org, account).json["secret"]) == KEY_SCOPES


def test_its_keys_have_no_more_than_the_account(call: Call, org: Caller) -> None:
    account = new_account(call, org, scopes=["runs:read", "runs:write"])
    made = key_of(call, org, account).json
    assert made["service_account_id"] == account["id"]
    assert made["scopes"] == ["runs:read", "runs:write"]
    assert key_of(call, org, account, scopes=["runs:read"]).json["scopes"] == ["runs:read"]
    answer = key_of(call, org, account, scopes=["runs:read", "agents:read"])
    assert (answer.status, answer.json["error"]["param"]) == (400, "scopes")


def test_nobody_gives_an_account_or_its_keys_what_they_lack(call: Call, org: Caller) -> None:
    large = new_account(call, org)
    secret = call(
        api_keys,
        "POST",
        "/v1/api-keys",
        org,
        json={"name": "K", "scopes": ["keys:write", "service-accounts:write", "runs:read"]},
    ).json["secret"]
    small = bearer(secret)
    body = {"name": "A", "scopes": ["agents:write"]}
    assert call(api_keys, "POST", ACCOUNTS, small, json=body).json["error"]["param"] == "scopes"
    assert new_account(call, small)["scopes"] == sorted(small.scopes)
    assert key_of(call, small, large, scopes=["agents:write"]).json["error"]["param"] == "scopes"
    assert key_of(call, small, large).json["scopes"] == sorted(small.scopes)
    limited = new_account(call, org, scopes=["runs:read", "agents:read"])
    assert change(call, small, limited, scopes=["agents:read", "runs:write"]).json["error"]["param"] == "scopes"
    # What it has already may stay, whoever changes the rest.
    assert change(call, small, limited, scopes=["agents:read", "keys:write"]).status == 200


@pytest.mark.parametrize("scope", ["no:such", "account:read", "credits:grant", "sso:write"])
def test_an_account_has_no_scope_that_a_key_can_not_have(call: Call, org: Caller, scope: str) -> None:
    assert call(api_keys, "POST", ACCOUNTS, org, json={"name": "A", "scopes": [scope]}).status == 400
    assert change(call, org, new_account(call, org), scopes=[scope]).status == 400


def test_what_an_account_loses_its_keys_lose_at_once_and_regain_with_it(call: Call, org: Caller) -> None:
    account = new_account(call, org, scopes=["runs:read", "runs:write"])
    secret = key_of(call, org, account).json["secret"]
    change(call, org, account, scopes=["runs:read"])
    assert scopes_of(secret) == {"runs:read"}
    change(call, org, account, scopes=["runs:read", "runs:write", "agents:read"])
    assert scopes_of(secret) == {"runs:read", "runs:write"}


def test_a_disabled_accounts_keys_are_refused_and_it_gets_no_more(call: Call, org: Caller) -> None:
    account = new_account(call, org)
    made = key_of(call, org, account).json
    assert "org_id" in context_of(made["secret"])
    disabled = call(api_keys, "DELETE", f"{ACCOUNTS}/{account['id']}", org).json
    assert disabled["disabled_at"] is not None
    assert context_of(made["secret"])["refused_as"] == "api_key_revoked"
    assert call(api_keys, "DELETE", f"{ACCOUNTS}/{account['id']}", org).json == disabled
    rotated = call(api_keys, "POST", f"/v1/api-keys/{made['id']}/rotate", org, json={})
    for answer in (key_of(call, org, account), change(call, org, account, name="B"), rotated):
        assert (answer.status, answer.error) == (409, "service_account_disabled")


def test_a_rotated_key_of_an_account_stays_the_accounts(call: Call, org: Caller) -> None:
    account = new_account(call, org, scopes=["runs:read"])
    made = key_of(call, org, account).json
    new = call(api_keys, "POST", f"/v1/api-keys/{made['id']}/rotate", org, json={}).json
    assert new["service_account_id"] == account["id"]
    mine = call(api_keys, "GET", f"/v1/api-keys?service_account_id={account['id']}", org).json["data"]
    assert [key["id"] for key in mine] == [new["id"], made["id"]]
    other = ids.show("svc", ids.new())
    assert call(api_keys, "GET", f"/v1/api-keys?service_account_id={other}", org).json["data"] == []


def test_another_orgs_account_does_not_exist(call: Call, org: Caller, rival: Caller) -> None:
    account = new_account(call, org)
    answer = key_of(call, rival, account)
    assert (answer.status, answer.json["error"]["param"]) == (404, "service_account_id")
    assert change(call, rival, account, name="B").status == 404
    for method in ("GET", "DELETE"):
        assert call(api_keys, method, f"{ACCOUNTS}/{account['id']}", rival).status == 404
    assert call(api_keys, "GET", ACCOUNTS, rival).json["data"] == []


def test_all_that_is_done_to_an_account_is_in_the_audit_trail(call: Call, org: Caller) -> None:
    account = new_account(call, org, scopes=["runs:read"])
    change(call, org, account, scopes=[])
    for _ in range(2):
        call(api_keys, "DELETE", f"{ACCOUNTS}/{account['id']}", org)
    events = call(audit, "GET", f"/v1/audit-events?resource_id={account['id']}", org).json["data"]
    assert [event["action"] for event in events] == [
        "service_account.disable",
        "service_account.update",
        "service_account.create",
    ]
    assert (events[1]["old"]["scopes"], events[1]["new"]["scopes"]) == (["runs:read"], [])
