"""API keys over the API: for testing, with limits of their own, rotated with an overlap."""

import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from functions import authorizer
from functions.api.api_keys import handler as api_keys
from functions.api.audit import handler as audit
from shared.identity import service
from shared.identity.model import KEY_FORMAT, OPERATOR_ORG_ID
from shared.identity.policy import Role
from shared.kernel import db, ids
from shared.kernel.caller import Caller
from shared.kernel.errors import RunyardError
from tests.api_gateway import Answer, Context
from tests.people import joined

Call = Callable[..., Answer]
DAY = timedelta(days=1)


def context_of(secret: str) -> dict[str, Any]:
    """What the authorizer hands on about the bearer of this key."""
    answer = authorizer.handler({"headers": {"authorization": f"Bearer {secret}"}}, Context())
    found: dict[str, Any] = answer["context"]
    return found


def admitted(secret: str) -> Caller | None:
    found = context_of(secret)
    return Caller.from_context(found) if "org_id" in found else None


def new_key(call: Call, caller: Caller, **fields: Any) -> dict[str, Any]:
    answer = call(api_keys, "POST", "/v1/api-keys", caller, json={"name": "K", **fields})
    assert answer.status == 201, answer.text
    made: dict[str, Any] = answer.json
    return made


def rotate(call: Call, caller: Caller, key_id: str, **body: Any) -> Answer:
    return call(api_keys, "POST", f"/v1/api-keys/{key_id}/rotate", caller, json=body)


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


def test_a_key_says_what_it_is_for_and_a_scanner_finds_either_kind(call: Call, org: Caller) -> None:
    for mode in ("live", "test"):
        made = new_key(call, org, mode=mode)
        assert made["mode"] == mode
        assert made["secret"].startswith(f"ry_{mode}_")
        assert made["hint"].startswith(f"ry_{mode}_")
        assert re.findall(KEY_FORMAT, f'{{"key": "{made["secret"]}"}}') == [mode]
        assert admitted(made["secret"]) is not None


def test_a_test_key_always_expires(call: Call, org: Caller) -> None:
    now = datetime.now(UTC)
    by_default = moment(new_key(call, org, mode="test")["expires_at"])
    assert timedelta(days=29) < by_default - now < timedelta(days=31)
    asked = (now + 89 * DAY).isoformat()
    assert moment(new_key(call, org, mode="test", expires_at=asked)["expires_at"]) == moment(asked)
    late = {"name": "K", "mode": "test", "expires_at": (now + 91 * DAY).isoformat()}
    answer = call(api_keys, "POST", "/v1/api-keys", org, json=late)
    assert (answer.status, answer.json["error"]["param"]) == (400, "expires_at")
    assert new_key(call, org)["expires_at"] is None


@pytest.mark.parametrize("limit", [0, -1, 1_000_001, "many"])
def test_a_rate_limit_out_of_bounds_is_refused(call: Call, org: Caller, limit: object) -> None:
    body = {"name": "K", "rate_limit_per_minute": limit}
    assert call(api_keys, "POST", "/v1/api-keys", org, json=body).status == 400


def test_a_keys_own_rate_limit_reaches_the_caller(call: Call, org: Caller) -> None:
    limited, unlimited = new_key(call, org, rate_limit_per_minute=7), new_key(call, org)
    assert limited["rate_limit_per_minute"] == 7
    ours, others = admitted(limited["secret"]), admitted(unlimited["secret"])
    assert ours is not None
    assert others is not None
    assert ours.rates != others.rates


def test_one_key_can_be_read_without_its_secret(call: Call, org: Caller, rival: Caller) -> None:
    made = new_key(call, org)
    found = call(api_keys, "GET", f"/v1/api-keys/{made['id']}", org)
    assert found.json == made | {"secret": None}
    assert call(api_keys, "GET", f"/v1/api-keys/{made['id']}", rival).status == 404


def test_a_rotated_key_works_on_beside_its_successor_for_the_overlap(call: Call, org: Caller) -> None:
    old = new_key(call, org, scopes=["runs:read"], rate_limit_per_minute=9, metadata={"for": "ci"})
    new = rotate(call, org, old["id"], overlap_s=3600).json
    assert new["id"] != old["id"]
    for field in ("name", "mode", "scopes", "rate_limit_per_minute", "metadata", "service_account_id", "expires_at"):
        assert new[field] == old[field], field
    before = call(api_keys, "GET", f"/v1/api-keys/{old['id']}", org).json
    assert before["replaced_by"] == new["id"]
    assert timedelta(minutes=59) < moment(before["expires_at"]) - datetime.now(UTC) < timedelta(minutes=61)
    assert admitted(old["secret"]) is not None
    assert admitted(new["secret"]) is not None
    with db.tenant(org) as tx:
        tx.execute("UPDATE api_keys SET expires_at = now() - interval '1 second' WHERE replaced_by IS NOT NULL")
    assert context_of(old["secret"])["refused_as"] == "api_key_expired"
    assert admitted(new["secret"]) is not None


def test_a_key_rotated_without_overlap_is_refused_at_once(call: Call, org: Caller) -> None:
    old = new_key(call, org)
    new = rotate(call, org, old["id"], overlap_s=0).json
    assert context_of(old["secret"])["refused_as"] == "api_key_expired"
    assert admitted(new["secret"]) is not None


def test_a_rotation_prolongs_no_life_of_the_old_key_and_gives_the_new_one_as_long(call: Call, org: Caller) -> None:
    until = datetime.now(UTC) + timedelta(minutes=30)
    old = new_key(call, org, expires_at=until.isoformat())
    new = rotate(call, org, old["id"], overlap_s=7 * 24 * 3600).json
    assert moment(call(api_keys, "GET", f"/v1/api-keys/{old['id']}", org).json["expires_at"]) == until
    assert timedelta(minutes=29) < moment(new["expires_at"]) - datetime.now(UTC) < timedelta(minutes=31)


def test_a_rotated_test_key_is_a_test_key_that_expires(call: Call, org: Caller) -> None:
    new = rotate(call, org, new_key(call, org, mode="test")["id"]).json
    assert new["secret"].startswith("ry_test_")
    assert moment(new["expires_at"]) - datetime.now(UTC) < 31 * DAY


def test_only_a_key_in_use_can_be_rotated(call: Call, org: Caller) -> None:
    revoked, expired, rotated = (new_key(call, org) for _ in range(3))
    call(api_keys, "DELETE", f"/v1/api-keys/{revoked['id']}", org)
    rotate(call, org, rotated["id"])
    with db.tenant(org) as tx:
        expired_id = ids.read("key", expired["id"])
        tx.execute("UPDATE api_keys SET expires_at = now() - interval '1 second' WHERE id = %s", (expired_id,))
    for key in (revoked, expired, rotated):
        answer = rotate(call, org, key["id"])
        assert (answer.status, answer.error) == (409, "api_key_not_rotatable")


def test_rotated_by_many_at_once_it_has_one_successor(call: Call, org: Caller) -> None:
    key_id = ids.read("key", new_key(call, org)["id"])

    def try_it(_: int) -> str:
        try:
            with db.tenant(org) as tx:
                service.rotate_key(tx, org, key_id=key_id, overlap_s=60)
        except RunyardError as error:
            return error.code
        return "rotated"

    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(try_it, range(8)))
    assert sorted(outcomes) == ["api_key_not_rotatable"] * 7 + ["rotated"]


def test_a_key_that_may_do_more_can_not_be_rotated(call: Call, org: Caller) -> None:
    large = new_key(call, org)
    small = admitted(new_key(call, org, scopes=["keys:write"])["secret"])
    assert small is not None
    answer = rotate(call, small, large["id"])
    assert (answer.status, answer.error) == (403, "api_key_beyond_yours")
    assert admitted(large["secret"]) is not None


def test_a_key_can_rotate_itself(call: Call, org: Caller) -> None:
    made = new_key(call, org, scopes=["keys:write", "runs:read"])
    itself = admitted(made["secret"])
    assert itself is not None
    assert rotate(call, itself, made["id"]).json["scopes"] == ["keys:write", "runs:read"]


def test_the_operators_key_is_not_rotated_here(call: Call, operator: Caller) -> None:
    with db.tenant(operator) as tx:
        row = tx.execute("SELECT id FROM api_keys WHERE org_id = %s", (OPERATOR_ORG_ID,)).fetchone()
    assert row is not None
    assert rotate(call, operator, ids.show("key", row["id"])).error == "api_key_not_rotatable"


@pytest.mark.parametrize("overlap", [-1, 7 * 24 * 3600 + 1, "long"])
def test_an_overlap_out_of_bounds_is_refused(call: Call, org: Caller, overlap: object) -> None:
    assert rotate(call, org, new_key(call, org)["id"], overlap_s=overlap).status == 400


def test_a_repeated_rotation_is_answered_as_the_first_but_for_the_secret(call: Call, org: Caller) -> None:
    old = new_key(call, org)
    headers = {"Idempotency-Key": "rotate"}
    url = f"/v1/api-keys/{old['id']}/rotate"
    first = call(api_keys, "POST", url, org, json={}, headers=headers)
    again = call(api_keys, "POST", url, org, json={}, headers=headers)
    assert again.headers["idempotency-replayed"] == "true"
    assert again.json == {name: value for name, value in first.json.items() if name != "secret"}
    assert first.json["secret"] not in again.text


def test_a_rotation_is_in_the_audit_trail_without_a_secret(call: Call, org: Caller) -> None:
    old = new_key(call, org)
    new = rotate(call, org, old["id"]).json
    events = call(audit, "GET", f"/v1/audit-events?resource_id={old['id']}", org)
    assert [event["action"] for event in events.json["data"]] == ["api_key.rotate", "api_key.create"]
    assert events.json["data"][0]["new"]["replaced_by"] == new["id"]
    (created,) = call(audit, "GET", f"/v1/audit-events?resource_id={new['id']}", org).json["data"]
    assert created["action"] == "api_key.create"
    assert new["secret"] not in events.text + str(created)


def test_an_admin_makes_keys_with_what_keys_can_have_and_a_member_makes_none(call: Call, org: Caller) -> None:
    made = new_key(call, joined(org, Role.ADMIN))
    assert not {scope for scope in made["scopes"] if scope.startswith(("account:", "sso:"))}
    assert "agents:write" in made["scopes"]
    for role in ("member", "viewer"):
        answer = call(api_keys, "POST", "/v1/api-keys", joined(org, Role(role)), json={"name": "K"})
        assert answer.error == "insufficient_scope"


def test_a_key_of_another_org_can_not_be_rotated(call: Call, org: Caller, rival: Caller) -> None:
    made = new_key(call, org)
    assert rotate(call, rival, made["id"]).status == 404
    assert admitted(made["secret"]) is not None
