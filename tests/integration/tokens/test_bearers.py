"""Whom the authorizer takes the bearer of a token or key for, and how soon it stops doing so."""

from typing import Any, LiteralString

import pytest

from functions import authorizer
from functions.api.account import handler as account
from functions.api.api_keys import handler as api_keys
from shared.identity.policy import Role, scopes_of
from shared.kernel import db, ids
from shared.kernel.caller import Caller
from shared.quotas import service as quotas
from tests.api_gateway import Context
from tests.emulator import Emulator
from tests.services import Services
from tests.signed_in import Person, join, sign_in


def admitted(credential: str) -> Caller:
    """Who bears it; raises the refusal."""
    answer = authorizer.handler({"headers": {"authorization": f"Bearer {credential}"}}, Context())
    return Caller.from_context(answer["context"])


def refused_as(credential: str) -> str | None:
    answer = authorizer.handler({"headers": {"authorization": f"Bearer {credential}"}}, Context())
    refusal: str | None = answer["context"].get("refused_as")
    return refusal


def change(person: Person, statement: LiteralString) -> None:
    with db.person(person.user_id) as tx:
        tx.execute(f"UPDATE sessions SET {statement}")


@pytest.mark.parametrize("role", Role)
def test_a_person_has_the_scopes_of_their_role_in_the_org_of_the_token(
    emulator: Emulator, org: Caller, role: Role
) -> None:
    person = sign_in(org, role=role)
    caller = admitted(person.token())
    assert (caller.org_id, caller.role, caller.plan) == (org.org_id, role, "free")
    assert (caller.person_id, caller.session_id) == (person.user_id, person.session_id)
    assert caller.actor_id == ids.show("user", person.user_id)
    assert caller.scopes == scopes_of(role)
    assert caller.only_own == (person.user_id if role is Role.MEMBER else None)


def test_the_api_takes_the_person_for_who_they_are(emulator: Emulator, org: Caller, call: Any) -> None:
    person = sign_in(org, role="viewer")
    answer = call(account, "GET", "/v1/me", admitted(person.token()))
    assert (answer.status, answer.json["role"]) == (200, "viewer")
    assert call(api_keys, "GET", "/v1/api-keys", admitted(person.token())).error == "insufficient_scope"


def test_a_change_of_role_counts_in_a_token_that_was_there_before(emulator: Emulator, org: Caller) -> None:
    person = sign_in(org, role="owner")
    token = person.token()
    assert "keys:write" in admitted(token).scopes
    with db.tenant(org) as tx:
        tx.execute("UPDATE memberships SET role = 'viewer'")
    assert admitted(token).scopes == scopes_of(Role.VIEWER)


def test_who_left_the_org_is_no_longer_admitted(emulator: Emulator, org: Caller) -> None:
    token = sign_in(org).token()
    with db.tenant(org) as tx:
        tx.execute("DELETE FROM memberships")
    assert refused_as(token) == "session_ended"


@pytest.mark.parametrize("ending", ["ended_at = now()", "expires_at = now()"])
def test_an_ended_session_is_no_longer_admitted(emulator: Emulator, org: Caller, ending: LiteralString) -> None:
    person = sign_in(org)
    token = person.token()
    assert refused_as(token) is None
    change(person, ending)
    assert refused_as(token) == "session_ended"


def test_a_person_of_two_orgs_is_in_each_what_they_are_there(emulator: Emulator, org: Caller, rival: Caller) -> None:
    person = sign_in(org, role="owner")
    assert refused_as(person.token(rival.org_id)) == "session_ended"
    join(rival, person, role="viewer")
    assert admitted(person.token(rival.org_id)).role == "viewer"
    assert admitted(person.token(rival.org_id)).org_id == rival.org_id
    assert admitted(person.token()).role == "owner"


def test_who_signed_in_by_the_orgs_own_issuer_stays_within_that_org(
    emulator: Emulator, org: Caller, rival: Caller
) -> None:
    person = sign_in(org, role="owner", org_locked=True)
    join(rival, person, role="owner")
    caller = admitted(person.token())
    assert scopes_of(Role.OWNER) - caller.scopes == {"account:read", "account:write", "orgs:create"}
    assert refused_as(person.token(rival.org_id)) == "session_ended"


def test_a_person_has_the_rates_of_the_orgs_plan(emulator: Emulator, org: Caller) -> None:
    person = sign_in(org)
    assert admitted(person.token()).rates == quotas.rates_of("free", {}, None) != ""


def test_an_expired_a_revoked_and_an_unknown_key_are_told_apart(org: Caller, call: Any) -> None:
    def made() -> dict[str, Any]:
        key: dict[str, Any] = call(api_keys, "POST", "/v1/api-keys", org, json={"name": "K"}).json
        return key

    expired, revoked, good = made(), made(), made()
    assert call(api_keys, "DELETE", f"/v1/api-keys/{revoked['id']}", org).status == 200
    with db.tenant(org) as tx:
        tx.execute("UPDATE api_keys SET expires_at = now() WHERE id = %s", (ids.read("key", expired["id"]),))
    assert refused_as(expired["secret"]) == "api_key_expired"
    assert refused_as(revoked["secret"]) == "api_key_revoked"
    assert refused_as(good["secret"]) is None
    assert admitted(good["secret"]).actor_id == good["id"]


def test_with_postgres_gone_a_good_token_is_neither_admitted_nor_called_wrong(
    emulator: Emulator, org: Caller, services: Services
) -> None:
    token = sign_in(org).token()
    assert refused_as(token) is None
    services.postgres.kill()
    try:
        assert refused_as(token) == "unavailable"
    finally:
        services.postgres.start()
    assert refused_as(token) is None
