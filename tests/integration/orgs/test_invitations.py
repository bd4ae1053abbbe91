"""Invitations, from the offer over the letter in the inbox to the new member."""

import logging
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from botocore.exceptions import BotoCoreError

from functions.api.members import handler as members
from functions.api.orgs import handler as orgs
from functions.queues.send_letters import handler as send_letters
from shared.identity.policy import KEY_SCOPES, Role
from shared.kernel import aws, db, ids
from shared.kernel.caller import Caller
from shared.orgs import service
from shared.orgs.model import INVITATIONS_A_DAY
from tests.api_gateway import Answer, Context
from tests.emulator import Emulator
from tests.integration.orgs.conftest import People, actions, seats

Call = Callable[..., Answer]
LINK = re.compile(r"https://runyard\.test/account#invitation=([A-Za-z0-9_-]{43})\n")


def url(caller: Caller, rest: str = "") -> str:
    return f"/v1/orgs/{ids.show('org', caller.org_id)}/invitations{rest}"


def offer(call: Call, caller: Caller, email: str, role: str = "viewer") -> Answer:
    return call(members, "POST", url(caller), caller, json={"email": email, "role": role})


def accept(call: Call, caller: Caller, token: str) -> Answer:
    return call(members, "POST", "/v1/invitations/accept", caller, json={"token": token})


def delivered(emulator: Emulator, to: str) -> list[dict[str, Any]]:
    """Let the queue's consumer send what was asked for; return all mail to this address, oldest first."""
    if records := emulator.letters_asked_for():
        send_letters({"Records": records}, Context())
    return emulator.sent_mail(to)


def token_in(mail: dict[str, Any]) -> str:
    found = LINK.search(mail["BodyText"])
    assert found is not None
    return found[1]


def invited(call: Call, emulator: Emulator, owner: Caller, name: str, role: str = "viewer") -> tuple[str, str]:
    """Return the invitation's id and the token in the letter that Ada's colleague `name` received."""
    answer = offer(call, owner, f"{name}@example.com", role)
    assert answer.status == 201, answer.text
    return answer.json["id"], token_in(delivered(emulator, f"{name}@example.com")[-1])


def in_the_past(owner: Caller, column: str, by: timedelta) -> None:
    with db.tenant(owner) as tx:
        tx.execute(f"UPDATE invitations SET {column} = {column} - %s", (by,))


def test_a_colleague_is_invited_reads_the_letter_and_joins(call: Call, people: People, emulator: Emulator) -> None:
    ada, grace = people.registers("Ada"), people.registers("Grace")
    answer = offer(call, ada, " Grace@Example.com ", "member")
    assert (answer.status, answer.json["status"], answer.json["email"]) == (201, "open", "grace@example.com")
    assert answer.json["invited_by"] == ada.actor_id
    (mail,) = delivered(emulator, "grace@example.com")[-1:]
    assert mail["Subject"] == "Invitation to Ada's org"
    for told in ("Ada (ada@example.com)", '"Ada\'s org"', "as member", answer.json["expires_at"][:10]):
        assert told in mail["BodyText"]
    joined = accept(call, grace, token_in(mail))
    assert (joined.status, joined.json["org"]["name"], joined.json["role"]) == (200, "Ada's org", "member")
    there = people.in_org_of(grace, ada, Role.MEMBER)
    assert call(orgs, "GET", f"/v1/orgs/{joined.json['org']['id']}", there).json == joined.json["org"]
    assert {each["role"] for each in call(orgs, "GET", "/v1/orgs", grace).json["data"]} == {"owner", "member"}
    assert call(members, "GET", url(ada, f"/{answer.json['id']}"), ada).json["status"] == "accepted"
    assert seats(ada) == 2
    assert actions(ada)[-3:] == [
        (ada.actor_id, "invitation.create"),
        (grace.actor_id, "member.add"),
        (grace.actor_id, "invitation.accept"),
    ]


def test_a_link_works_once(call: Call, people: People, emulator: Emulator) -> None:
    ada, grace = people.registers("Ada"), people.registers("Grace")
    _, token = invited(call, emulator, ada, "grace")
    with ThreadPoolExecutor(4) as pool:
        statuses = sorted(answer.status for answer in pool.map(lambda _: accept(call, grace, token), range(4)))
    assert statuses == [200, 409, 409, 409]
    assert accept(call, grace, token).error == "invitation_closed"
    there = people.in_org_of(grace, ada, Role.VIEWER)
    assert (
        call(members, "DELETE", f"/v1/orgs/{ids.show('org', ada.org_id)}/members/{grace.actor_id}", there).status == 204
    )
    assert accept(call, grace, token).error == "invitation_closed"


def test_the_link_is_of_no_use_to_anybody_else(call: Call, people: People, emulator: Emulator) -> None:
    ada, eve = people.registers("Ada"), people.registers("Eve")
    people.registers("Grace")
    _, token = invited(call, emulator, ada, "grace")
    assert accept(call, eve, token).error == "invitation_for_another"
    assert accept(call, ada, token).error == "invitation_for_another"
    key = Caller(ada.org_id, ids.show("key", ids.new()), "api", KEY_SCOPES, "free")
    assert accept(call, key, token).error == "insufficient_scope"


def test_the_session_of_an_orgs_own_sign_in_joins_no_other_org(call: Call, people: People, emulator: Emulator) -> None:
    ada, grace = people.registers("Ada"), people.registers("Grace")
    _, token = invited(call, emulator, ada, "grace")
    locked = replace(grace, scopes=grace.scopes - {"orgs:create", "account:read", "account:write"})
    assert accept(call, locked, token).error == "insufficient_scope"


@pytest.mark.parametrize("token", ["x", "x" * 43, "x" * 100, "é", "' OR 1=1 --", "\u0000"])
def test_an_unknown_token_says_nothing(call: Call, people: People, token: str) -> None:
    answer = accept(call, people.registers("Ada"), token)
    assert (answer.status, answer.error) in {(404, "not_found"), (400, "invalid_request")}


def test_an_expired_invitation_is_refused_and_can_be_sent_again(call: Call, people: People, emulator: Emulator) -> None:
    ada, grace = people.registers("Ada"), people.registers("Grace")
    invitation, token = invited(call, emulator, ada, "grace")
    in_the_past(ada, "expires_at", timedelta(days=8))
    assert accept(call, grace, token).error == "invitation_expired"
    assert call(members, "GET", url(ada, f"/{invitation}"), ada).json["status"] == "expired"
    in_the_past(ada, "sent_at", timedelta(minutes=6))
    again = call(members, "POST", url(ada, f"/{invitation}/resend"), ada)
    assert (again.status, again.json["status"], again.json["sent_at"]) == (200, "open", None)
    newer = token_in(delivered(emulator, "grace@example.com")[-1])
    assert newer != token
    assert accept(call, grace, token).error == "not_found"
    assert accept(call, grace, newer).status == 200


def test_an_expired_invitation_makes_room_for_a_new_one(call: Call, people: People, emulator: Emulator) -> None:
    ada = people.registers("Ada")
    first = offer(call, ada, "grace@example.com").json["id"]
    in_the_past(ada, "expires_at", timedelta(days=8))
    assert offer(call, ada, "grace@example.com").status == 201
    found = call(members, "GET", url(ada), ada).json["data"]
    assert [each["status"] for each in found] == ["open", "expired"]
    assert found[1]["id"] == first


def test_a_letter_is_not_sent_again_at_once(call: Call, people: People, emulator: Emulator) -> None:
    ada = people.registers("Ada")
    invitation, _ = invited(call, emulator, ada, "grace")
    answer = call(members, "POST", url(ada, f"/{invitation}/resend"), ada)
    assert (answer.status, answer.error) == (429, "too_many_invitations")
    assert 290 <= int(answer.headers["retry-after"]) <= 300


def test_a_revoked_invitation_opens_nothing(call: Call, people: People, emulator: Emulator) -> None:
    ada, grace = people.registers("Ada"), people.registers("Grace")
    invitation, token = invited(call, emulator, ada, "grace")
    revoked = call(members, "DELETE", url(ada, f"/{invitation}"), ada)
    assert (revoked.status, revoked.json["status"]) == (200, "revoked")
    assert call(members, "DELETE", url(ada, f"/{invitation}"), ada).json == revoked.json
    assert accept(call, grace, token).error == "not_found"
    assert call(members, "POST", url(ada, f"/{invitation}/resend"), ada).error == "invitation_closed"
    assert offer(call, ada, "grace@example.com").status == 201
    assert [action for _, action in actions(ada)].count("invitation.revoke") == 1


def test_an_accepted_invitation_is_not_revoked(call: Call, people: People, emulator: Emulator) -> None:
    ada, grace = people.registers("Ada"), people.registers("Grace")
    invitation, token = invited(call, emulator, ada, "grace")
    accept(call, grace, token)
    assert call(members, "DELETE", url(ada, f"/{invitation}"), ada).error == "invitation_closed"


def test_one_revoked_before_its_letter_left_is_never_sent(call: Call, people: People, emulator: Emulator) -> None:
    ada = people.registers("Ada")
    invitation = offer(call, ada, "hopper@example.com").json["id"]
    call(members, "DELETE", url(ada, f"/{invitation}"), ada)
    assert delivered(emulator, "hopper@example.com") == []


def test_an_address_has_one_open_invitation(call: Call, people: People, emulator: Emulator) -> None:
    ada = people.registers("Ada")
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: offer(call, ada, "Grace@example.com"), range(4)))
    assert sorted(answer.status for answer in answers) == [201, 409, 409, 409]
    assert {answer.error for answer in answers if answer.status == 409} == {"already_invited"}
    assert len(call(members, "GET", url(ada), ada).json["data"]) == 1


def test_a_member_is_not_invited(call: Call, people: People, emulator: Emulator) -> None:
    ada = people.registers("Ada")
    people.joins(ada, "Grace", Role.VIEWER)
    assert offer(call, ada, "GRACE@example.com").error == "already_member"


def test_who_became_a_member_otherwise_does_not_join_again(call: Call, people: People, emulator: Emulator) -> None:
    ada, grace = people.registers("Ada"), people.registers("Grace")
    _, token = invited(call, emulator, ada, "grace", role="admin")
    assert grace.person_id is not None
    with db.tenant(ada) as tx:
        service.add_member(tx, ada, user_id=grace.person_id, role=Role.VIEWER)
    assert accept(call, grace, token).error == "already_member"
    with db.tenant(ada) as tx:
        assert service.role_of(tx, grace.person_id) is Role.VIEWER


def test_inviting_does_not_tell_who_has_an_account(call: Call, people: People, emulator: Emulator) -> None:
    ada = people.registers("Ada")
    people.registers("Grace")
    known, unknown = (offer(call, ada, email) for email in ("grace@example.com", "nobody@example.com"))
    own = {"id", "email", "created_at", "expires_at"}
    assert known.status == unknown.status
    assert {key: value for key, value in known.json.items() if key not in own} == {
        key: value for key, value in unknown.json.items() if key not in own
    }
    delivered(emulator, "grace@example.com")
    letters = [emulator.sent_mail(to)[-1]["BodyText"] for to in ("grace@example.com", "nobody@example.com")]
    assert LINK.sub("", letters[0]) == LINK.sub("", letters[1])


def test_nobody_invites_above_their_own_role(call: Call, people: People, emulator: Emulator) -> None:
    ada = people.registers("Ada")
    admin, member = people.joins(ada, "Grace", Role.ADMIN), people.joins(ada, "Edsger", Role.MEMBER)
    assert offer(call, admin, "x@example.com", "owner").status == 403
    assert offer(call, member, "x@example.com", "viewer").error == "insufficient_scope"
    assert offer(call, admin, "x@example.com", "admin").status == 201
    owners = offer(call, ada, "y@example.com", "owner").json["id"]
    assert call(members, "DELETE", url(ada, f"/{owners}"), admin).status == 403
    assert call(members, "POST", url(ada, f"/{owners}/resend"), admin).status == 403


def test_a_full_org_invites_viewers_only(call: Call, people: People, emulator: Emulator) -> None:
    ada, grace = people.registers("Ada", seats=1), people.registers("Grace")
    assert offer(call, ada, "grace@example.com", "member").error == "quota_exceeded"
    _, token = invited(call, emulator, ada, "grace")
    assert accept(call, grace, token).status == 200
    assert seats(ada) == 1


def test_a_seat_taken_meanwhile_keeps_the_invitation_open(call: Call, people: People, emulator: Emulator) -> None:
    ada, grace = people.registers("Ada", seats=2), people.registers("Grace")
    invitation, token = invited(call, emulator, ada, "grace", role="member")
    edsger = people.joins(ada, "Edsger", Role.MEMBER)
    assert accept(call, grace, token).error == "quota_exceeded"
    assert call(members, "GET", url(ada, f"/{invitation}"), ada).json["status"] == "open"
    call(members, "DELETE", f"/v1/orgs/{ids.show('org', ada.org_id)}/members/{edsger.actor_id}", ada)
    assert accept(call, grace, token).status == 200


def test_only_allowed_domains_are_invited_and_accept(call: Call, people: People, emulator: Emulator) -> None:
    ada, grace = people.registers("Ada"), people.registers("Grace")
    _, token = invited(call, emulator, ada, "grace")
    settings = f"/v1/orgs/{ids.show('org', ada.org_id)}/settings"
    call(orgs, "PUT", settings, ada, json={"allowed_email_domains": ["corp.example"]})
    assert offer(call, ada, "x@example.com").error == "email_domain_not_allowed"
    assert offer(call, ada, "x@corp.example").status == 201
    assert accept(call, grace, token).error == "email_domain_not_allowed"


@pytest.mark.parametrize("email", ["", "x", "x@y", "a@b@example.com", "a\r\nBcc: b@example.com", "ä@example.com"])
def test_what_is_no_address_is_not_invited(call: Call, people: People, email: str) -> None:
    answer = offer(call, people.registers("Ada"), email)
    assert (answer.status, answer.json["error"]["param"]) == (400, "email")


def test_an_org_invites_so_many_a_day_and_no_more(call: Call, people: People, emulator: Emulator) -> None:
    ada = people.registers("Ada")
    with db.tenant(ada) as tx:
        tx.execute(
            "INSERT INTO invitations (id, org_id, email, role, invited_by, expires_at, revoked_at)"
            " SELECT gen_random_uuid(), %s, 'n' || n || '@example.com', 'viewer', 'x', now(), now()"
            " FROM generate_series(1, %s) n",
            (ada.org_id, INVITATIONS_A_DAY - 1),
        )
    assert offer(call, ada, "last@example.com").status == 201
    assert offer(call, ada, "more@example.com").error == "too_many_invitations"
    in_the_past(ada, "created_at", timedelta(days=1))
    assert offer(call, ada, "more@example.com").status == 201


def test_another_orgs_invitation_does_not_exist(call: Call, people: People, emulator: Emulator) -> None:
    ada, grace = people.registers("Ada"), people.registers("Grace")
    invitation = offer(call, ada, "x@example.com").json["id"]
    for owner in (ada, grace):
        for method, rest in (("GET", ""), ("DELETE", ""), ("POST", "/resend")):
            assert call(members, method, url(owner, f"/{invitation}{rest}"), grace).status == 404
    assert call(members, "GET", url(grace), grace).json["data"] == []


def test_invitations_are_listed_in_pages(call: Call, people: People, emulator: Emulator) -> None:
    ada = people.registers("Ada")
    for name in "abc":
        offer(call, ada, f"{name}@example.com")
    first = call(members, "GET", url(ada, "?limit=2"), ada).json
    rest = call(members, "GET", url(ada, f"?limit=2&cursor={first['next_cursor']}"), ada).json
    assert [each["email"][0] for each in first["data"] + rest["data"]] == ["c", "b", "a"]


def test_a_letter_asked_for_twice_is_sent_once(call: Call, people: People, emulator: Emulator) -> None:
    ada = people.registers("Ada")
    offer(call, ada, "twice@example.com")
    assert service.ask_for_unsent_invitations(timedelta()) == 1
    assert len(delivered(emulator, "twice@example.com")) == 1
    assert service.ask_for_unsent_invitations(timedelta()) == 0


def test_a_letter_that_could_not_leave_is_asked_for_again(
    call: Call, people: People, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada = people.registers("Ada")
    with monkeypatch.context() as cut_off:
        cut_off.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
        aws.client.cache_clear()
        invitation = offer(call, ada, "late@example.com")
        assert invitation.status == 201
        with pytest.raises(BotoCoreError):
            service.send_invitation(ada.org_id, ids.read("inv", invitation.json["id"]))
    aws.client.cache_clear()
    assert service.ask_for_unsent_invitations(timedelta(hours=1)) == 0
    assert service.ask_for_unsent_invitations(timedelta()) == 1
    assert delivered(emulator, "late@example.com")


def test_names_can_not_add_lines_to_a_letter(call: Call, people: People, emulator: Emulator) -> None:
    ada = people.registers("Ada")
    path = f"/v1/orgs/{ids.show('org', ada.org_id)}"
    name = "Acme\r\nBcc: all@example.com\n\nDear\u2028customer\u202e"
    assert call(orgs, "PATCH", path, ada, json={"name": name}).status == 200
    offer(call, ada, "lines@example.com")
    mail = delivered(emulator, "lines@example.com")[-1]
    assert mail["Subject"] == "Invitation to Acme Bcc: all@example.com Dear customer "
    assert mail["BodyText"].splitlines()[0].endswith('customer " as viewer.')


def test_a_letter_of_a_key_names_no_person(call: Call, people: People, emulator: Emulator) -> None:
    ada = people.registers("Ada")
    key = Caller(ada.org_id, ids.show("key", ids.new()), "api", KEY_SCOPES, "free")
    offer(call, key, "bykey@example.com")
    assert "An administrator of Ada's org invites you" in delivered(emulator, "bykey@example.com")[-1]["BodyText"]


def test_the_secret_is_neither_stored_nor_logged(
    call: Call, people: People, emulator: Emulator, logged: Callable[[], str], caplog: pytest.LogCaptureFixture
) -> None:
    # At DEBUG, from which no function logs, botocore tells all that it sends.
    caplog.set_level(logging.INFO, logger="botocore")
    ada, grace = people.registers("Ada"), people.registers("Grace")
    _, token = invited(call, emulator, ada, "grace")
    assert accept(call, grace, token).status == 200
    assert token not in logged()
    with db.tenant(ada) as tx:
        rows = tx.execute("SELECT invitations::text, (SELECT json_agg(a) FROM audit_events a) FROM invitations")
        assert token not in str(rows.fetchall())
