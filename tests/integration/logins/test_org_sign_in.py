"""An org's own sign-in: its issuer is trusted for that org alone, for roles by its claims, for nobody's address."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from functions.api.logins import handler as logins
from functions.api.members import handler as members
from shared.identity.policy import Role, scopes_of
from shared.kernel import db, ids
from shared.kernel.caller import Caller
from shared.orgs import service as orgs
from shared.people import service as people
from shared.quotas import service as quotas
from shared.quotas.plans import Resource
from tests.api_gateway import Answer
from tests.integration.logins.conftest import (
    Browser,
    OpenIdServer,
    audited,
    caller_of,
    put_sso,
    registered,
    role_in,
    slug_of,
)
from tests.integration.logins.stand_ins import CLIENT_SECRET, Issuer

Call = Callable[..., Answer]


@pytest.fixture
def owner(browser: Browser, configure: Callable[..., None]) -> Caller:
    """The owner of an org with seats for ten, and no sign-in of its own yet."""
    return owning("owner@example.com")


def owning(email: str, *, seats: int = 10) -> Caller:
    """Somebody with an org that has this many seats."""
    owner = registered(email)
    set_seats(owner, seats)
    return owner


def set_seats(owner: Caller, seats: int) -> None:
    with db.tenant(owner) as tx:
        quotas.set_limits(tx, owner, owner.org_id, quotas={Resource.MEMBERS: seats})


@pytest.fixture
def trusted(call: Call, owner: Caller, issuer: Issuer) -> Issuer:
    """The org's own issuer, which makes everybody a member whom it does not say more of."""
    roles = {"admins": "admin", "readers": "viewer"}
    assert put_sso(call, owner, issuer.url, role_claim="groups", role_map=roles, default_role="member").status == 200
    issuer.claims = {"sub": "u-1", "email": "new@example.com", "name": "New"}
    return issuer


def joins(owner: Caller, person: Caller, role: Role) -> None:
    assert person.person_id is not None
    with db.tenant(owner) as tx:
        orgs.add_member(tx, owner, user_id=person.person_id, role=role)


def sign_in(browser: Browser, owner: Caller, issuer: Issuer) -> Answer:
    return browser.sign_in(f"sso/{slug_of(owner)}", issuer.consent)


def test_a_real_issuer_signs_somebody_new_in_to_the_org_and_nowhere_else(
    call: Call, browser: Browser, owner: Caller, openid_server: OpenIdServer
) -> None:
    assert put_sso(call, owner, openid_server.url, default_role="member").status == 200
    consent = openid_server.knows("s-1", email="new@example.com", name="New")
    guest = caller_of(browser.sign_in(f"sso/{slug_of(owner)}", consent))
    assert (guest.org_id, guest.role) == (owner.org_id, "member")
    assert guest.scopes == scopes_of(Role.MEMBER) - {"account:read", "account:write", "orgs:create"}
    again = caller_of(browser.sign_in(f"sso/{slug_of(owner)}", consent))
    assert again.person_id == guest.person_id
    assert guest.person_id is not None
    with db.person(guest.person_id) as tx:
        assert [org.id for org, _ in orgs.orgs_of_person(tx)] == [owner.org_id]
    assert {"sso.create", "user.create", "member.add", "identity.create", "session.create"} <= set(audited(owner))


def test_who_the_issuer_brings_takes_nothing_from_the_owner_of_the_address(
    call: Call, browser: Browser, owner: Caller, trusted: Issuer
) -> None:
    guest = caller_of(sign_in(browser, owner, trusted))
    with db.anonymous() as tx:
        assert people.find_by_email(tx, "new@example.com") is None
    later = registered("new@example.com")
    assert later.person_id != guest.person_id
    assert caller_of(sign_in(browser, owner, trusted)).person_id == guest.person_id
    shown = call(members, "GET", f"/v1/orgs/{ids.show('org', owner.org_id)}/members", owner).json["data"]
    assert "new@example.com" in [member["email"] for member in shown]


def test_a_member_is_recognised_by_address_and_keeps_their_account(
    browser: Browser, owner: Caller, trusted: Issuer
) -> None:
    ada = registered("ada@example.com")
    joins(owner, ada, Role.VIEWER)
    trusted.claims["email"] = "Ada@example.com"
    signed_in = caller_of(sign_in(browser, owner, trusted))
    assert (signed_in.person_id, signed_in.org_id, signed_in.role) == (ada.person_id, owner.org_id, "member")


def test_who_has_an_account_and_is_no_member_must_be_invited(browser: Browser, owner: Caller, trusted: Issuer) -> None:
    ada = registered("ada@example.com")
    trusted.claims["email"] = "ada@example.com"
    assert sign_in(browser, owner, trusted).error == "not_a_member"
    assert role_in(owner, ada.person_id) is None


def test_who_was_removed_stays_out(browser: Browser, owner: Caller, trusted: Issuer) -> None:
    guest = caller_of(sign_in(browser, owner, trusted))
    assert guest.person_id is not None
    with db.tenant(owner) as tx:
        orgs.remove_member(tx, owner, user_id=guest.person_id)
    assert sign_in(browser, owner, trusted).error == "not_a_member"


def test_one_orgs_issuer_says_nothing_in_another_org(
    call: Call, browser: Browser, owner: Caller, trusted: Issuer
) -> None:
    here = caller_of(sign_in(browser, owner, trusted))
    other = owning("other@example.com")
    assert put_sso(call, other, trusted.url, default_role="member").status == 200
    there = caller_of(sign_in(browser, other, trusted))
    assert (there.org_id, here.org_id) == (other.org_id, owner.org_id)
    assert there.person_id != here.person_id


def test_an_answer_meant_for_one_org_is_refused_at_anothers_callback(
    call: Call, browser: Browser, owner: Caller, trusted: Issuer
) -> None:
    other = owning("other@example.com")
    assert put_sso(call, other, trusted.url, default_role="member").status == 200
    came_with = trusted.consent(browser.start(f"sso/{slug_of(owner)}"))
    mixed_up = browser.get(f"/v1/auth/sso/{ids.show('org', other.org_id)}/callback?{came_with}")
    assert mixed_up.error == "login_state_invalid"
    assert "/token" not in trusted.asked


def test_an_orgs_answer_is_refused_at_a_providers_callback(
    browser: Browser, owner: Caller, trusted: Issuer, configure: Callable[..., None]
) -> None:
    configure(google={"client_id": "x", "client_secret": "y", "issuer": trusted.url})
    came_with = trusted.consent(browser.start(f"sso/{slug_of(owner)}"))
    assert browser.get(f"/v1/auth/oauth/google/callback?{came_with}").error == "login_state_invalid"


@pytest.mark.parametrize(
    ("groups", "role"),
    [
        (None, "member"),
        ("admins", "admin"),
        (["readers", "admins", "others"], "admin"),
        (["readers"], "viewer"),
        ([], "member"),
        ({"admins": True}, "member"),
        ([["admins"], 1, None], "member"),
        ("owner", "member"),
    ],
)
def test_the_role_follows_from_the_claim(
    browser: Browser, owner: Caller, trusted: Issuer, groups: Any, role: str
) -> None:
    trusted.claims["groups"] = groups
    assert caller_of(sign_in(browser, owner, trusted)).role == role


def test_the_role_follows_the_claim_at_each_sign_in_and_is_recorded(
    browser: Browser, owner: Caller, trusted: Issuer
) -> None:
    seats_before = _seats(owner)
    guest = caller_of(sign_in(browser, owner, trusted))
    assert _seats(owner) == seats_before + 1
    trusted.claims["groups"] = "readers"
    assert caller_of(sign_in(browser, owner, trusted)).role == "viewer"
    assert role_in(owner, guest.person_id) is Role.VIEWER
    assert _seats(owner) == seats_before
    assert audited(owner).count("member.update") == 1


def _seats(owner: Caller) -> int:
    with db.tenant(owner) as tx:
        return next(each.used for each in quotas.status(tx, owner.org_id) if each.resource is Resource.MEMBERS)


def test_without_a_role_nobody_is_signed_in(call: Call, browser: Browser, owner: Caller, trusted: Issuer) -> None:
    assert put_sso(call, owner, trusted.url, role_claim="groups", role_map={"admins": "admin"}).status == 200
    assert sign_in(browser, owner, trusted).error == "no_role"
    trusted.claims["groups"] = "admins"
    assert caller_of(sign_in(browser, owner, trusted)).role == "admin"
    trusted.claims["groups"] = "nothing"
    assert sign_in(browser, owner, trusted).error == "no_role"


def test_ownership_is_neither_given_nor_taken(call: Call, browser: Browser, owner: Caller, trusted: Issuer) -> None:
    trusted.claims |= {"email": "owner@example.com", "groups": "readers"}
    assert caller_of(sign_in(browser, owner, trusted)).role == "owner"
    answer = put_sso(call, owner, trusted.url, role_claim="groups", role_map={"x": "owner"})
    assert (answer.status, answer.error) == (400, "invalid_request")


def test_a_full_org_takes_nobody_in(browser: Browser, owner: Caller, trusted: Issuer) -> None:
    set_seats(owner, 1)
    assert sign_in(browser, owner, trusted).error == "quota_exceeded"
    trusted.claims["groups"] = "readers"
    assert caller_of(sign_in(browser, owner, trusted)).role == "viewer"


def test_an_address_that_the_issuer_itself_doubts_is_refused(browser: Browser, owner: Caller, trusted: Issuer) -> None:
    trusted.claims["email_verified"] = False
    assert sign_in(browser, owner, trusted).error == "email_not_verified"


@pytest.mark.parametrize("email", [None, "no address", "x" * 500, 7, "a@b\x00c"])
def test_without_a_usable_address_somebody_still_has_an_identity(
    browser: Browser, owner: Caller, trusted: Issuer, email: Any
) -> None:
    trusted.claims |= {"email": email, "name": "\x00\n "}
    first = caller_of(sign_in(browser, owner, trusted))
    assert caller_of(sign_in(browser, owner, trusted)).person_id == first.person_id


def test_the_client_secret_is_wrapped_and_never_shown(call: Call, owner: Caller, trusted: Issuer) -> None:
    path = f"/v1/orgs/{ids.show('org', owner.org_id)}/sso"
    shown = call(logins, "GET", path, owner)
    assert shown.status == 200
    assert shown.json["redirect_uri"] == f"https://runyard.test/v1/auth/sso/{ids.show('org', owner.org_id)}/callback"
    with db.tenant(owner) as tx:
        stored = tx.execute("SELECT * FROM sso_connections").fetchone()
        trail = tx.execute("SELECT string_agg(audit_events::text, ' ') AS text FROM audit_events").fetchone()
    assert CLIENT_SECRET not in f"{shown.text}{stored}{trail}"


def test_only_an_owner_sets_it_up_and_admins_see_it(call: Call, owner: Caller, trusted: Issuer) -> None:
    path = f"/v1/orgs/{ids.show('org', owner.org_id)}/sso"
    for role, reads in ((Role.ADMIN, 200), (Role.MEMBER, 403), (Role.VIEWER, 403)):
        caller = replace(owner, role=role.value, scopes=scopes_of(role))
        assert call(logins, "GET", path, caller).status == reads
        assert put_sso(call, caller, trusted.url).status == 403
        assert call(logins, "DELETE", path, caller).status == 403


def test_another_orgs_sign_in_does_not_exist(call: Call, owner: Caller, trusted: Issuer) -> None:
    path = f"/v1/orgs/{ids.show('org', owner.org_id)}/sso"
    other = owning("other@example.com")
    assert call(logins, "GET", path, other).status == 404
    assert call(logins, "DELETE", path, other).status == 404
    asked = len(trusted.asked)
    assert put_sso(call, replace(other, org_id=owner.org_id), trusted.url).status == 200
    foreign = {"issuer": trusted.url, "client_id": "x", "client_secret": "y"}
    assert call(logins, "PUT", path, other, json=foreign).status == 404
    assert len(trusted.asked) == asked


def test_once_removed_nobody_signs_in_by_it(call: Call, browser: Browser, owner: Caller, trusted: Issuer) -> None:
    begun = browser.start(f"sso/{slug_of(owner)}")
    path = f"/v1/orgs/{ids.show('org', owner.org_id)}/sso"
    assert call(logins, "DELETE", path, owner).status == 200
    assert browser.back(begun, trusted.consent(begun)).error == "provider_not_configured"
    assert browser.get(f"/v1/auth/sso/{slug_of(owner)}/start").error == "provider_not_configured"
    assert call(logins, "GET", path, owner).status == 404
    assert "sso.delete" in audited(owner)


def test_an_issuer_that_was_replaced_meanwhile_signs_nobody_in(
    call: Call, browser: Browser, owner: Caller, trusted: Issuer, openid_server: OpenIdServer
) -> None:
    begun = browser.start(f"sso/{slug_of(owner)}")
    assert put_sso(call, owner, openid_server.url, default_role="member").status == 200
    came = browser.back(begun, trusted.consent(begun))
    assert came.error in {"code_refused", "login_state_invalid"}
