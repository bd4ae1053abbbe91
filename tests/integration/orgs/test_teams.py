"""Teams over the API."""

from collections.abc import Callable

import pytest

from functions.api.members import handler as members
from functions.api.teams import handler as teams
from shared.identity.policy import Role
from shared.kernel import db, ids
from shared.kernel.caller import Caller
from tests.api_gateway import Answer
from tests.integration.orgs.conftest import People, actions

Call = Callable[..., Answer]


def url(caller: Caller, rest: str = "") -> str:
    return f"/v1/orgs/{ids.show('org', caller.org_id)}/teams{rest}"


def test_a_team_is_made_changed_listed_and_deleted(call: Call, people: People) -> None:
    ada = people.registers("Ada")
    made = call(teams, "POST", url(ada), ada, json={"name": "Research", "metadata": {"a": "b"}})
    assert (made.status, made.json["object"], made.json["metadata"]) == (201, "team", {"a": "b"})
    one = url(ada, f"/{made.json['id']}")
    assert call(teams, "GET", one, ada).json == made.json
    changed = call(teams, "PATCH", one, ada, json={"name": "Development"}).json
    assert (changed["name"], changed["metadata"]) == ("Development", {"a": "b"})
    assert call(teams, "GET", url(ada), ada).json["data"] == [changed]
    assert call(teams, "DELETE", one, ada).status == 204
    assert call(teams, "GET", one, ada).status == 404
    assert call(teams, "DELETE", one, ada).status == 404
    assert [action for _, action in actions(ada)][-3:] == ["team.create", "team.update", "team.delete"]


def test_a_team_asked_for_twice_with_one_key_is_made_once(call: Call, people: People) -> None:
    ada = people.registers("Ada")
    answers = [
        call(teams, "POST", url(ada), ada, json={"name": "T"}, headers={"Idempotency-Key": "k"}) for _ in range(2)
    ]
    assert answers[0].json == answers[1].json
    assert len(call(teams, "GET", url(ada), ada).json["data"]) == 1


def test_names_are_unique_within_an_org_alone(call: Call, people: People) -> None:
    ada, grace = people.registers("Ada"), people.registers("Grace")
    first, second = (call(teams, "POST", url(ada), ada, json={"name": name}).json for name in ("T", "U"))
    assert call(teams, "POST", url(ada), ada, json={"name": "T"}).error == "team_name_taken"
    assert call(teams, "PATCH", url(ada, f"/{second['id']}"), ada, json={"name": "T"}).error == "team_name_taken"
    assert call(teams, "PATCH", url(ada, f"/{first['id']}"), ada, json={"name": "T"}).status == 200
    assert call(teams, "POST", url(grace), grace, json={"name": "T"}).status == 201


def test_teams_are_listed_in_pages(call: Call, people: People) -> None:
    ada = people.registers("Ada")
    for name in "ABC":
        call(teams, "POST", url(ada), ada, json={"name": name})
    first = call(teams, "GET", url(ada, "?limit=2"), ada).json
    rest = call(teams, "GET", url(ada, f"?limit=2&cursor={first['next_cursor']}"), ada).json
    assert [each["name"] for each in first["data"] + rest["data"]] == ["C", "B", "A"]
    assert not rest["has_more"]


def test_members_come_and_go_and_doing_it_again_changes_nothing(call: Call, people: People) -> None:
    ada = people.registers("Ada")
    grace = people.joins(ada, "Grace", Role.VIEWER)
    team = call(teams, "POST", url(ada), ada, json={"name": "T"}).json["id"]
    one = url(ada, f"/{team}/members/{grace.actor_id}")
    first, again = (call(teams, "PUT", one, ada) for _ in range(2))
    assert (first.status, first.json["email"]) == (200, "grace@example.com")
    assert first.json == again.json
    assert call(teams, "GET", url(ada, f"/{team}/members"), grace).json["data"] == [first.json]
    assert call(teams, "DELETE", one, ada).status == 204
    assert call(teams, "DELETE", one, ada).status == 404
    assert call(teams, "GET", url(ada, f"/{team}/members"), ada).json["data"] == []
    assert [action for _, action in actions(ada)][-2:] == ["team.add_member", "team.remove_member"]


def test_only_members_of_the_org_are_put_into_a_team(call: Call, people: People) -> None:
    ada, grace = people.registers("Ada"), people.registers("Grace")
    team = call(teams, "POST", url(ada), ada, json={"name": "T"}).json["id"]
    assert call(teams, "PUT", url(ada, f"/{team}/members/{grace.actor_id}"), ada).status == 404
    assert call(teams, "PUT", url(ada, f"/{team}/members/{ids.show('user', ids.new())}"), ada).status == 404
    unknown = ids.show("team", ids.new())
    assert call(teams, "PUT", url(ada, f"/{unknown}/members/{ada.actor_id}"), ada).status == 404
    assert call(teams, "GET", url(ada, f"/{unknown}/members"), ada).status == 404


def test_another_orgs_team_does_not_exist(call: Call, people: People) -> None:
    ada, grace = people.registers("Ada"), people.registers("Grace")
    team = call(teams, "POST", url(ada), ada, json={"name": "T"}).json["id"]
    # Neither under its own org's address nor under the rival's.
    for owner in (ada, grace):
        for method, rest, body in (
            ("GET", "", None),
            ("PATCH", "", {"name": "X"}),
            ("DELETE", "", None),
            ("GET", "/members", None),
            ("PUT", f"/members/{grace.actor_id}", None),
            ("DELETE", f"/members/{ada.actor_id}", None),
        ):
            assert call(teams, method, url(owner, f"/{team}{rest}"), grace, json=body).status == 404
    assert call(teams, "GET", url(ada, f"/{team}"), ada).json["name"] == "T"


@pytest.mark.parametrize("role", [Role.MEMBER, Role.VIEWER])
def test_who_may_only_read_changes_no_team(call: Call, people: People, role: Role) -> None:
    ada = people.registers("Ada")
    grace = people.joins(ada, "Grace", role)
    team = call(teams, "POST", url(ada), ada, json={"name": "T"}).json["id"]
    assert call(teams, "GET", url(ada, f"/{team}"), grace).status == 200
    for method, rest, body in (
        ("POST", "", {"name": "X"}),
        ("PATCH", f"/{team}", {"name": "X"}),
        ("DELETE", f"/{team}", None),
        ("PUT", f"/{team}/members/{grace.actor_id}", None),
        ("DELETE", f"/{team}/members/{grace.actor_id}", None),
    ):
        assert call(teams, method, url(ada, rest), grace, json=body).error == "insufficient_scope"


def test_what_was_shared_with_a_team_or_a_member_ends_with_them(call: Call, people: People) -> None:
    ada = people.registers("Ada")
    grace = people.joins(ada, "Grace", Role.MEMBER)
    team = call(teams, "POST", url(ada), ada, json={"name": "T"}).json["id"]
    call(teams, "PUT", url(ada, f"/{team}/members/{grace.actor_id}"), ada)
    shared = [(ids.read("team", team), None), (None, grace.person_id)]
    things = [ids.new() for _ in shared]
    with db.tenant(ada) as tx:
        for thing, (team_id, user_id) in zip(things, shared, strict=True):
            tx.execute(
                "INSERT INTO resource_grants (id, org_id, resource_type, resource_id, team_id, user_id, access,"
                " created_by) VALUES (%s, %s, 'agent', %s, %s, %s, 'read', 'test')",
                (ids.new(), ada.org_id, thing, team_id, user_id),
            )

    def granted() -> list[bool]:
        with db.tenant(ada) as tx:
            rows = tx.execute(
                "SELECT resource_id FROM resource_grants WHERE user_id = %(user)s OR team_id IN"
                " (SELECT team_id FROM team_members WHERE user_id = %(user)s)",
                {"user": grace.person_id},
            ).fetchall()
        return [thing in {row["resource_id"] for row in rows} for thing in things]

    assert granted() == [True, True]
    call(teams, "DELETE", url(ada, f"/{team}"), ada)
    assert granted() == [False, True]
    member = f"/v1/orgs/{ids.show('org', ada.org_id)}/members/{grace.actor_id}"
    assert call(members, "DELETE", member, ada).status == 204
    assert granted() == [False, False]
