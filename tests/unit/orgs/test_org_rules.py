"""The rules of orgs: who may change whom, who stays, what an invitation is, which settings are ones."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from shared.identity.policy import KEY_SCOPES, Role, scopes_of
from shared.kernel import ids
from shared.kernel.caller import Caller
from shared.kernel.errors import Forbidden, InvalidRequest
from shared.orgs.model import (
    INVITATION_LIFETIME,
    RESEND_AFTER,
    EmailDomainNotAllowed,
    Invitation,
    InvitationClosed,
    InvitationExpired,
    InvitationForAnother,
    InvitationStatus,
    LastOwner,
    OrgSettings,
    TooManyInvitations,
    check_an_owner_remains,
    check_may_change,
    takes_seat,
)

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
OPEN = Invitation(
    id=ids.new(),
    email="grace@example.com",
    role=Role.MEMBER,
    invited_by="user_x",
    created_at=NOW,
    sent_at=NOW,
    accepted_at=None,
    revoked_at=None,
    expires_at=NOW + INVITATION_LIFETIME,
)
LATER = NOW + timedelta(hours=1)


def person(role: Role) -> Caller:
    return Caller(ids.new(), "user_x", role.value, scopes_of(role), "free", person_id=ids.new())


def key(*scopes: str) -> Caller:
    return Caller(ids.new(), "key_x", "api", frozenset(scopes), "free")


@pytest.mark.parametrize("role", Role)
def test_an_owner_gives_and_takes_every_role(role: Role) -> None:
    check_may_change(person(Role.OWNER), role)


@pytest.mark.parametrize(
    ("giver", "allowed"),
    [
        (Role.ADMIN, {Role.ADMIN, Role.MEMBER, Role.VIEWER}),
        (Role.MEMBER, {Role.MEMBER}),
        (Role.VIEWER, {Role.VIEWER}),
    ],
)
def test_nobody_gives_or_takes_more_than_they_have(giver: Role, allowed: set[Role]) -> None:
    for role in Role:
        if role in allowed:
            check_may_change(person(giver), role)
        else:
            with pytest.raises(Forbidden):
                check_may_change(person(giver), role)


def test_one_role_beyond_ones_own_is_enough_to_be_refused() -> None:
    with pytest.raises(Forbidden):
        check_may_change(person(Role.ADMIN), Role.MEMBER, Role.OWNER)


def test_a_key_gives_the_roles_whose_scopes_it_has() -> None:
    check_may_change(key(*KEY_SCOPES), Role.ADMIN, Role.VIEWER)
    with pytest.raises(Forbidden):
        check_may_change(key(*KEY_SCOPES), Role.OWNER)
    with pytest.raises(Forbidden):
        check_may_change(key("members:write"), Role.VIEWER)


def test_the_platform_itself_may_change_everybody() -> None:
    check_may_change(Caller.system(ids.new()), *Role)


def test_the_last_owner_stays_and_others_may_go() -> None:
    one, other = uuid4(), uuid4()
    check_an_owner_remains(frozenset({one, other}), without=one)
    check_an_owner_remains(frozenset({one}), without=other)
    with pytest.raises(LastOwner):
        check_an_owner_remains(frozenset({one}), without=one)


def test_all_but_viewers_take_a_seat() -> None:
    assert [role for role in Role if not takes_seat(role)] == [Role.VIEWER]


@pytest.mark.parametrize(
    ("changes", "now", "status"),
    [
        ({}, LATER, InvitationStatus.OPEN),
        ({}, OPEN.expires_at, InvitationStatus.EXPIRED),
        ({"accepted_at": LATER}, OPEN.expires_at, InvitationStatus.ACCEPTED),
        ({"revoked_at": LATER}, LATER, InvitationStatus.REVOKED),
        # Put away when the address was invited anew.
        ({"revoked_at": OPEN.expires_at}, OPEN.expires_at, InvitationStatus.EXPIRED),
    ],
)
def test_an_invitation_is_in_one_state(changes: dict[str, Any], now: datetime, status: InvitationStatus) -> None:
    assert replace(OPEN, **changes).status(now) is status


@pytest.mark.parametrize(
    ("changes", "email", "now", "error"),
    [
        ({}, "eve@example.com", LATER, InvitationForAnother),
        ({}, OPEN.email, OPEN.expires_at, InvitationExpired),
        ({"accepted_at": LATER}, OPEN.email, LATER, InvitationClosed),
        ({"revoked_at": LATER}, OPEN.email, LATER, InvitationClosed),
        # Whoever it isn't for is not told its state.
        ({"revoked_at": LATER}, "eve@example.com", LATER, InvitationForAnother),
    ],
)
def test_an_invitation_is_refused_to_others_and_once_it_is_closed(
    changes: dict[str, Any], email: str, now: datetime, error: type[Exception]
) -> None:
    OPEN.check_acceptable_by(OPEN.email, LATER)
    with pytest.raises(error):
        replace(OPEN, **changes).check_acceptable_by(email, now)


def test_a_letter_is_sent_again_after_a_while_even_when_it_has_expired() -> None:
    OPEN.check_resendable(NOW + RESEND_AFTER)
    OPEN.check_resendable(OPEN.expires_at)
    replace(OPEN, sent_at=None).check_resendable(NOW)
    with pytest.raises(TooManyInvitations) as refused:
        OPEN.check_resendable(NOW + RESEND_AFTER - timedelta(seconds=3))
    assert refused.value.retry_after_s == 4


@pytest.mark.parametrize("closed", ["accepted_at", "revoked_at"])
def test_a_closed_invitation_is_not_sent_again(closed: str) -> None:
    with pytest.raises(InvitationClosed):
        replace(OPEN, **{closed: LATER}).check_resendable(OPEN.expires_at)  # type: ignore[arg-type]


def test_settings_have_one_spelling() -> None:
    given = OrgSettings(("Example.COM ", "müller.de", "example.com"))
    checked = given.checked()
    assert checked.allowed_email_domains == ("example.com", "xn--mller-kva.de")
    assert OrgSettings.from_json(checked.to_json()) == checked
    assert OrgSettings.from_json({}) == OrgSettings()


@pytest.mark.parametrize(
    "wrong",
    [
        OrgSettings(allowed_email_domains=("example",)),
        OrgSettings(allowed_email_domains=("a@example.com",)),
        OrgSettings(allowed_email_domains=("*.example.com",)),
        OrgSettings(allowed_email_domains=("",)),
    ],
)
def test_settings_that_are_none_are_refused(wrong: OrgSettings) -> None:
    with pytest.raises(InvalidRequest):
        wrong.checked()


def test_only_the_very_domains_are_admitted() -> None:
    OrgSettings().check_admits("a@anywhere.org")
    some = OrgSettings(allowed_email_domains=("example.com",))
    some.check_admits("a@example.com")
    for stranger in ("a@sub.example.com", "a@evilexample.com", "a@example.com.evil.org"):
        with pytest.raises(EmailDomainNotAllowed):
            some.check_admits(stranger)
