"""Orgs over the API: a person's several orgs, names, slugs, settings."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from functions.api.orgs import handler as orgs
from shared.identity.policy import Role
from shared.kernel import ids
from shared.kernel.caller import Caller
from tests.api_gateway import Answer
from tests.integration.orgs.conftest import People, actions, seats

Call = Callable[..., Answer]


def url(caller: Caller, rest: str = "") -> str:
    return f"/v1/orgs/{ids.show('org', caller.org_id)}{rest}"


def listed(call: Call, caller: Caller, query: str = "") -> dict[str, Any]:
    answer = call(orgs, "GET", f"/v1/orgs{query}", caller)
    assert answer.status == 200, answer.text
    found: dict[str, Any] = answer.json
    return found


def test_a_person_creates_a_second_org_and_belongs_to_both_as_owner(call: Call, people: People) -> None:
    ada = people.registers("Ada")
    created = call(orgs, "POST", "/v1/orgs", ada, json={"name": "Second", "slug": "second"})
    assert (created.status, created.json["api_key"]) == (201, None)
    found = listed(call, ada)["data"]
    assert [(each["org"]["name"], each["role"]) for each in found] == [("Second", "owner"), ("Ada's org", "owner")]
    second = replace(ada, org_id=ids.read("org", created.json["org"]["id"]))
    assert seats(second) == 1
    assert actions(second) == [(ada.actor_id, "org.create")]


def test_a_person_owns_ten_orgs_at_most(call: Call, people: People) -> None:
    ada = people.registers("Ada")
    made = [call(orgs, "POST", "/v1/orgs", ada, json={"name": f"Org {number}"}).status for number in range(9)]
    assert made == [201] * 9
    refused = call(orgs, "POST", "/v1/orgs", ada, json={"name": "One more"})
    assert (refused.status, refused.error) == (403, "too_many_orgs")
    assert len(listed(call, ada, "?limit=100")["data"]) == 10


def test_orgs_are_listed_in_pages_newest_first(call: Call, people: People) -> None:
    ada = people.registers("Ada")
    for name in ("B", "C"):
        call(orgs, "POST", "/v1/orgs", ada, json={"name": name})
    first = listed(call, ada, "?limit=2")
    assert ([each["org"]["name"] for each in first["data"]], first["has_more"]) == (["C", "B"], True)
    rest = listed(call, ada, f"?limit=2&cursor={first['next_cursor']}")
    assert ([each["org"]["name"] for each in rest["data"]], rest["next_cursor"]) == (["Ada's org"], None)


def test_a_key_belongs_to_its_own_org_alone(call: Call, org: Caller, rival: Caller) -> None:
    found = listed(call, org)["data"]
    assert [(each["org"]["id"], each["role"]) for each in found] == [(ids.show("org", org.org_id), "api")]
    assert listed(call, org, f"?cursor={found[0]['org']['id']}")["data"] == []


def test_the_session_of_an_orgs_own_sign_in_sees_no_other_org(call: Call, people: People) -> None:
    ada, grace = people.registers("Ada"), people.registers("Grace")
    joined = people.in_org_of(grace, ada, Role.MEMBER)
    call(orgs, "GET", "/v1/orgs", joined)
    locked = replace(joined, scopes=joined.scopes - {"orgs:create", "account:read", "account:write"})
    assert [each["org"]["id"] for each in listed(call, locked)["data"]] == [ids.show("org", ada.org_id)]


def test_name_slug_and_metadata_are_changed_one_by_one(call: Call, people: People) -> None:
    ada = people.registers("Ada")
    before = call(orgs, "GET", url(ada), ada).json
    renamed = call(orgs, "PATCH", url(ada), ada, json={"name": "Engines"}).json
    assert renamed == before | {"name": "Engines", "updated_at": renamed["updated_at"]}
    moved = call(orgs, "PATCH", url(ada), ada, json={"slug": "engines", "metadata": {"a": "b"}}).json
    assert (moved["name"], moved["slug"], moved["metadata"]) == ("Engines", "engines", {"a": "b"})
    assert call(orgs, "GET", url(ada), ada).json == moved
    assert actions(ada).count((ada.actor_id, "org.update")) == 2


@pytest.mark.parametrize("slug", ["", "-a", "a-", "A", "a b", "ä", "a" * 49, "a/b", "..", "a\n"])
def test_what_is_no_slug_is_refused(call: Call, people: People, slug: str) -> None:
    ada = people.registers("Ada")
    answer = call(orgs, "PATCH", url(ada), ada, json={"slug": slug})
    assert (answer.status, answer.json["error"]["param"]) == (400, "slug")


def test_another_orgs_slug_is_refused_and_nothing_changes(call: Call, people: People) -> None:
    ada, grace = people.registers("Ada"), people.registers("Grace")
    call(orgs, "PATCH", url(ada), ada, json={"slug": "taken"})
    answer = call(orgs, "PATCH", url(grace), grace, json={"name": "X", "slug": "taken"})
    assert (answer.status, answer.error) == (409, "slug_taken")
    assert call(orgs, "GET", url(grace), grace).json["name"] == "Grace's org"


def test_settings_are_replaced_as_a_whole_and_shown_with_the_org(call: Call, people: People) -> None:
    ada = people.registers("Ada")
    default: dict[str, Any] = {"object": "org_settings", "allowed_email_domains": []}
    assert call(orgs, "GET", url(ada, "/settings"), ada).json == default
    kept = call(orgs, "PUT", url(ada, "/settings"), ada, json={"allowed_email_domains": ["Example.com"]}).json
    assert kept == default | {"allowed_email_domains": ["example.com"]}
    assert call(orgs, "GET", url(ada), ada).json["settings"] == kept
    assert call(orgs, "PUT", url(ada, "/settings"), ada, json={}).json == default
    assert actions(ada).count((ada.actor_id, "org.update_settings")) == 2


@pytest.mark.parametrize(
    "wrong",
    [
        {"allowed_email_domains": ["no domain"]},
        {"allowed_email_domains": ["example.com"] * 51},
        {"require_second_factor": True},
    ],
)
def test_settings_that_are_none_are_refused(call: Call, people: People, wrong: dict[str, Any]) -> None:
    ada = people.registers("Ada")
    assert call(orgs, "PUT", url(ada, "/settings"), ada, json=wrong).error == "invalid_request"


@pytest.mark.parametrize("role", [Role.MEMBER, Role.VIEWER])
def test_who_may_only_read_changes_no_org(call: Call, people: People, role: Role) -> None:
    ada = people.registers("Ada")
    grace = people.joins(ada, "Grace", role)
    assert call(orgs, "GET", url(ada), grace).status == 200
    assert call(orgs, "PATCH", url(ada), grace, json={"name": "X"}).error == "insufficient_scope"
    assert call(orgs, "PUT", url(ada, "/settings"), grace, json={}).error == "insufficient_scope"


def test_another_org_does_not_exist_even_for_its_own_member_without_a_token_for_it(call: Call, people: People) -> None:
    ada, grace = people.registers("Ada"), people.registers("Grace")
    for method, rest, body in (
        ("GET", "", None),
        ("PATCH", "", {"name": "X"}),
        ("GET", "/settings", None),
        ("PUT", "/settings", {}),
    ):
        assert call(orgs, method, url(ada, rest), grace, json=body).status == 404
