"""Members over the API: who sees them, who may change them, who leaves."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from functions.api.members import handler as members
from functions.api.teams import handler as teams
from shared.identity.policy import KEY_SCOPES, Role
from shared.kernel import db, ids
from shared.kernel.caller import Caller
from shared.kernel.errors import RunyardError
from shared.orgs import service
from shared.quotas.model import Look
from tests.api_gateway import Answer
from tests.integration.orgs.conftest import People, actions, seats

Call = Callable[..., Answer]


def url(caller: Caller, person: Caller | None = None) -> str:
    whom = "" if person is None else f"/{person.actor_id}"
    return f"/v1/orgs/{ids.show('org', caller.org_id)}/members{whom}"


def roles(call: Call, caller: Caller) -> dict[str, str]:
    found = call(members, "GET", url(caller), caller).json["data"]
    return {member["name"]: member["role"] for member in found}


def test_members_are_listed_in_pages(call: Call, people: People) -> None:
    ada = people.registers("Ada")
    for name in ("Grace", "Edsger"):
        people.joins(ada, name, Role.VIEWER)
    first = call(members, "GET", url(ada) + "?limit=2", ada).json
    assert [each["name"] for each in first["data"]] == ["Edsger", "Grace"]
    rest = call(members, "GET", url(ada) + f"?limit=2&cursor={first['next_cursor']}", ada).json
    assert ([each["name"] for each in rest["data"]], rest["has_more"]) == (["Ada"], False)


def test_every_member_sees_the_others_and_who_manages_them_also_their_second_factor(call: Call, people: People) -> None:
    ada = people.registers("Ada")
    grace = people.joins(ada, "Grace", Role.VIEWER)
    seen = call(members, "GET", url(ada, ada), grace).json
    assert (seen["email"], seen["role"], seen["has_second_factor"]) == ("ada@example.com", "owner", None)
    assert call(members, "GET", url(ada, ada), ada).json["has_second_factor"] is False


def test_a_stand_in_is_not_shown_as_an_address(call: Call, people: People) -> None:
    ada = people.registers("Ada")
    assert ada.person_id is not None
    with db.person(ada.person_id) as tx:
        tx.execute("UPDATE users SET email = 'x.sso.org@invalid'")
    assert call(members, "GET", url(ada, ada), ada).json["email"] is None


def test_somebody_of_another_org_is_no_member(call: Call, people: People) -> None:
    ada, grace = people.registers("Ada"), people.registers("Grace")
    for method, body in (("GET", None), ("PATCH", {"role": "viewer"}), ("DELETE", None)):
        assert call(members, method, url(ada, grace), ada, json=body).error == "not_found"
        assert call(members, method, url(ada, ada), grace, json=body).error == "not_found"
    assert roles(call, grace) == {"Grace": "owner"}


def test_a_viewer_made_a_member_takes_a_seat_and_gives_it_back(call: Call, people: People) -> None:
    ada = people.registers("Ada")
    grace = people.joins(ada, "Grace", Role.VIEWER)
    assert seats(ada) == 1
    assert call(members, "PATCH", url(ada, grace), ada, json={"role": "member"}).json["role"] == "member"
    assert seats(ada) == 2
    assert call(members, "PATCH", url(ada, grace), ada, json={"role": "admin"}).json["role"] == "admin"
    assert seats(ada) == 2
    call(members, "PATCH", url(ada, grace), ada, json={"role": "viewer"})
    assert seats(ada) == 1
    assert actions(ada)[-1] == (ada.actor_id, "member.update")


def test_without_a_free_seat_a_viewer_stays_one(call: Call, people: People) -> None:
    ada = people.registers("Ada", seats=1)
    grace = people.joins(ada, "Grace", Role.VIEWER)
    answer = call(members, "PATCH", url(ada, grace), ada, json={"role": "member"})
    assert (answer.status, answer.error, answer.json["error"]["param"]) == (403, "quota_exceeded", "members")
    assert roles(call, ada)["Grace"] == "viewer"


def test_the_same_role_again_changes_nothing_and_is_not_recorded(call: Call, people: People) -> None:
    ada = people.registers("Ada")
    grace = people.joins(ada, "Grace", Role.VIEWER)
    before = actions(ada)
    assert call(members, "PATCH", url(ada, grace), ada, json={"role": "viewer"}).status == 200
    assert actions(ada) == before


def test_an_admin_neither_makes_nor_touches_owners(call: Call, people: People) -> None:
    ada = people.registers("Ada")
    grace = people.joins(ada, "Grace", Role.ADMIN)
    edsger = people.joins(ada, "Edsger", Role.MEMBER)
    for whom, role in ((edsger, "owner"), (ada, "member"), (grace, "owner")):
        assert call(members, "PATCH", url(ada, whom), grace, json={"role": role}).status == 403
    assert call(members, "DELETE", url(ada, ada), grace).status == 403
    assert call(members, "PATCH", url(ada, edsger), grace, json={"role": "admin"}).status == 200
    assert roles(call, ada) == {"Ada": "owner", "Grace": "admin", "Edsger": "admin"}


def test_a_key_makes_no_owner_and_gives_no_role_beyond_its_scopes(call: Call, people: People) -> None:
    ada = people.registers("Ada")
    grace = people.joins(ada, "Grace", Role.MEMBER)
    full = Caller(ada.org_id, ids.show("key", ids.new()), "api", KEY_SCOPES, "free")
    small = Caller(ada.org_id, full.actor_id, "api", frozenset({"members:write", "members:read"}), "free")
    assert call(members, "PATCH", url(ada, grace), full, json={"role": "owner"}).status == 403
    assert call(members, "DELETE", url(ada, ada), full).status == 403
    assert call(members, "PATCH", url(ada, grace), small, json={"role": "admin"}).status == 403
    assert call(members, "DELETE", url(ada, grace), small).status == 403
    assert call(members, "PATCH", url(ada, grace), full, json={"role": "admin"}).status == 200


def test_an_owner_hands_over_and_then_may_step_down(call: Call, people: People) -> None:
    ada = people.registers("Ada")
    grace = people.joins(ada, "Grace", Role.ADMIN)
    assert call(members, "PATCH", url(ada, ada), ada, json={"role": "admin"}).error == "last_owner"
    assert call(members, "DELETE", url(ada, ada), ada).error == "last_owner"
    assert call(members, "PATCH", url(ada, grace), ada, json={"role": "owner"}).status == 200
    assert call(members, "PATCH", url(ada, ada), ada, json={"role": "viewer"}).status == 200
    assert seats(ada) == 1


@pytest.mark.parametrize("role", [Role.VIEWER, Role.MEMBER, Role.ADMIN])
def test_everybody_may_leave_and_without_the_scope_remove_nobody_else(call: Call, people: People, role: Role) -> None:
    ada = people.registers("Ada")
    grace, edsger = people.joins(ada, "Grace", role), people.joins(ada, "Edsger", Role.VIEWER)
    if role is not Role.ADMIN:
        assert call(members, "DELETE", url(ada, edsger), grace).error == "insufficient_scope"
        assert call(members, "PATCH", url(ada, grace), grace, json={"role": "viewer"}).error == "insufficient_scope"
    assert call(members, "DELETE", url(ada, grace), grace).status == 204
    assert roles(call, ada) == {"Ada": "owner", "Edsger": "viewer"}
    assert seats(ada) == 1
    assert actions(ada)[-1] == (grace.actor_id, "member.remove")


def test_who_is_removed_leaves_the_teams_and_the_sessions_of_this_org_end(call: Call, people: People) -> None:
    ada, grace = people.registers("Ada"), people.registers("Grace")
    assert grace.person_id is not None
    with db.tenant(ada) as tx:
        service.add_member(tx, ada, user_id=grace.person_id, role=Role.MEMBER)
    path = f"/v1/orgs/{ids.show('org', ada.org_id)}/teams"
    team = call(teams, "POST", path, ada, json={"name": "T"}).json["id"]
    assert call(teams, "PUT", f"{path}/{team}/members/{grace.actor_id}", ada).status == 200
    opened = {"locked here": (ada.org_id, True), "free": (ada.org_id, False), "locked there": (grace.org_id, True)}
    with db.person(grace.person_id) as tx:
        for name, (org_id, locked) in opened.items():
            tx.execute(
                "INSERT INTO sessions (id, user_id, org_id, org_locked, method, ip, user_agent, expires_at)"
                " VALUES (%s, %s, %s, %s, 'sso', '', %s, now() + interval '1 day')",
                (ids.new(), grace.person_id, org_id, locked, name),
            )
    assert call(members, "DELETE", url(ada, grace), ada).status == 204
    assert call(teams, "GET", f"{path}/{team}/members", ada).json["data"] == []
    assert call(members, "GET", url(ada, grace), ada).status == 404
    assert call(members, "DELETE", url(ada, grace), ada).status == 404
    with db.person(grace.person_id) as tx:
        rows = tx.execute("SELECT user_agent, ended_because FROM sessions WHERE ended_at IS NOT NULL").fetchall()
    assert rows == [{"user_agent": "locked here", "ended_because": "left_org"}]


def test_a_member_twice_is_refused_and_takes_one_seat(people: People) -> None:
    ada = people.registers("Ada")
    grace = people.joins(ada, "Grace", Role.MEMBER)
    assert grace.person_id is not None
    with pytest.raises(RunyardError) as refused, db.tenant(ada) as tx:
        service.add_member(tx, ada, user_id=grace.person_id, role=Role.ADMIN)
    assert refused.value.code == "already_member"
    assert seats(ada) == 2


def test_the_seats_are_told_to_whoever_reconciles_them(people: People) -> None:
    ada = people.registers("Ada")
    grace, viewer = people.joins(ada, "Grace", Role.ADMIN), people.joins(ada, "Edsger", Role.VIEWER)
    everybody = [person.person_id for person in (ada, grace, viewer) if person.person_id is not None]
    with db.tenant(ada) as tx:
        assert service.holders(tx, Look(limit=10)) == [(ada.person_id, 1), (grace.person_id, 1)]
        assert service.holders(tx, Look(limit=10, after=ada.person_id)) == [(grace.person_id, 1)]
        assert service.holders(tx, Look(limit=1, among=everybody)) == [(ada.person_id, 1)]
        assert service.role_of(tx, everybody[2]) is Role.VIEWER
        assert service.role_of(tx, ids.new()) is None


def _together(*uses: Callable[[], object]) -> list[str]:
    """Start all at once; return what each was refused with, empty for done."""
    barrier = Barrier(len(uses))

    def one(use: Callable[[], object]) -> str:
        barrier.wait()
        try:
            use()
        except RunyardError as error:
            return error.code
        return ""

    with ThreadPoolExecutor(len(uses)) as pool:
        return sorted(pool.map(one, uses))


def _leave(person: Caller) -> None:
    assert person.person_id is not None
    with db.tenant(person) as tx:
        service.remove_member(tx, person, user_id=person.person_id)


def _demote(actor: Caller, person: Caller) -> None:
    assert person.person_id is not None
    with db.tenant(actor) as tx:
        service.change_role(tx, actor, user_id=person.person_id, role=Role.VIEWER)


@pytest.mark.parametrize("round_", range(5))
def test_owners_who_all_go_at_once_leave_exactly_one(people: People, round_: int) -> None:
    ada = people.registers("Ada")
    others = [people.joins(ada, f"Owner{number}", Role.OWNER) for number in range(3)]
    outcomes = _together(
        lambda: _leave(ada), lambda: _leave(others[0]), lambda: _demote(ada, others[1]), lambda: _demote(ada, others[2])
    )
    assert outcomes == ["", "", "", "last_owner"]
    with db.tenant(ada) as tx:
        found = tx.execute("SELECT count(*) AS owners FROM memberships WHERE role = 'owner'").fetchone()
    assert found == {"owners": 1}
    assert seats(ada) == 1


@pytest.mark.parametrize("round_", range(5))
def test_two_who_demote_each_other_leave_one_owner(people: People, round_: int) -> None:
    ada = people.registers("Ada")
    grace = people.joins(ada, "Grace", Role.OWNER)
    assert _together(lambda: _demote(ada, grace), lambda: _demote(grace, ada)) == ["", "last_owner"]


def test_as_many_join_at_once_as_there_are_seats(people: People) -> None:
    ada = people.registers("Ada", seats=3)
    joining = [people.joins(ada, f"Viewer{number}", Role.VIEWER) for number in range(6)]

    def promote(person: Caller) -> None:
        assert person.person_id is not None
        with db.tenant(ada) as tx:
            service.change_role(tx, ada, user_id=person.person_id, role=Role.MEMBER)

    outcomes = _together(*(lambda person=person: promote(person) for person in joining))
    assert outcomes == [""] * 2 + ["quota_exceeded"] * 4
    assert seats(ada) == 3
