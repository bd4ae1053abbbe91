"""The policy, stated a second time by hand: every role on every resource and action, and nothing beside."""

import itertools

import pytest

from shared.identity.policy import (
    KEY_SCOPES,
    OPERATOR_SCOPES,
    POLICY,
    SCOPES,
    Reach,
    Role,
    allows,
    check_may_give,
    grantable,
    scopes_of,
)
from shared.kernel.errors import Forbidden, InvalidRequest

# a: all of the org's, o: one's own and what is shared, -: nothing. Owner, admin, member, viewer; then k: keys may.
EXPECTED = {
    "account:read": "oooo-",
    "account:write": "oooo-",
    "agents:read": "aaoak",
    "agents:write": "aao-k",
    "audit:read": "aa--k",
    "billing:read": "aa-ak",
    "billing:admin": "a---k",
    "credits:read": "aa-ak",
    "inference:admin": "aa--k",
    "inference:read": "aaaak",
    "inference:write": "aaa-k",
    "keys:read": "aa--k",
    "keys:write": "aa--k",
    "members:read": "aaaak",
    "members:write": "aa--k",
    "memories:read": "aaoak",
    "memories:write": "aao-k",
    "orgs:create": "aaaa-",
    "orgs:read": "aaaak",
    "orgs:write": "aa--k",
    "runs:read": "aaoak",
    "runs:write": "aao-k",
    "sandboxes:read": "aaoak",
    "sandboxes:write": "aao-k",
    "service-accounts:read": "aa--k",
    "service-accounts:write": "aa--k",
    "sso:read": "aa---",
    "sso:write": "a----",
    "teams:read": "aaaak",
    "teams:write": "aa--k",
    "usage:read": "aa-ak",
}
REACH = {"a": Reach.ALL, "o": Reach.OWN, "-": Reach.NONE}
RESOURCES = sorted({scope.partition(":")[0] for scope in EXPECTED} | {"nothing"})
ACTIONS = sorted({scope.partition(":")[2] for scope in EXPECTED} | {"destroy"})


@pytest.mark.parametrize(("role", "resource", "action"), list(itertools.product(Role, RESOURCES, ACTIONS)))
def test_a_role_reaches_as_far_as_the_table_says(role: Role, resource: str, action: str) -> None:
    line = EXPECTED.get(f"{resource}:{action}", "-----")
    expected = REACH[line[list(Role).index(role)]]
    assert allows(role, resource, action) is expected
    assert (f"{resource}:{action}" in scopes_of(role)) is (expected is not Reach.NONE)


@pytest.mark.parametrize("scope", list(EXPECTED))
def test_a_key_can_hold_what_the_table_says(scope: str) -> None:
    assert (scope in KEY_SCOPES) is (EXPECTED[scope][4] == "k")


def test_the_policy_has_no_line_more_and_none_twice() -> None:
    scopes = [rule.scope for rule in POLICY]
    assert scopes == sorted(EXPECTED)
    assert set(EXPECTED) == SCOPES


def test_owners_may_all_that_admins_may_and_admins_all_that_others_may() -> None:
    assert scopes_of(Role.OWNER) > scopes_of(Role.ADMIN)
    assert scopes_of(Role.ADMIN) > scopes_of(Role.MEMBER) | scopes_of(Role.VIEWER)


def test_a_viewer_reads_and_changes_nothing_but_their_own_account() -> None:
    writing = {scope for scope in scopes_of(Role.VIEWER) if not scope.endswith(":read")}
    assert writing == {"account:write", "orgs:create"}


def test_the_operator_alone_reaches_across_tenants() -> None:
    assert {
        "orgs:create",
        "credits:adjust",
        "credits:grant",
        "prices:write",
        "quotas:write",
        "usage:write",
    } == OPERATOR_SCOPES - KEY_SCOPES
    assert not {"credits:adjust", "credits:grant", "quotas:write"} & set().union(*map(scopes_of, Role))


@pytest.mark.parametrize(("giver", "role"), list(itertools.product(Role, Role)))
def test_nobody_gives_a_role_that_may_more_than_they(giver: Role, role: Role) -> None:
    allowed = {
        Role.OWNER: set(Role),
        Role.ADMIN: set(Role) - {Role.OWNER},
        Role.MEMBER: {Role.MEMBER},
        Role.VIEWER: {Role.VIEWER},
    }
    if role in allowed[giver]:
        check_may_give(role, giver_role=giver, giver_scopes=scopes_of(giver))
    else:
        with pytest.raises(Forbidden):
            check_may_give(role, giver_role=giver, giver_scopes=scopes_of(giver))


def test_a_key_that_may_invite_makes_nobody_who_may_more_than_it() -> None:
    with pytest.raises(Forbidden):
        check_may_give(Role.ADMIN, giver_role="api", giver_scopes=frozenset({"members:write"}))
    with pytest.raises(Forbidden):
        check_may_give(Role.OWNER, giver_role="api", giver_scopes=KEY_SCOPES)
    check_may_give(Role.ADMIN, giver_role="api", giver_scopes=KEY_SCOPES)


def test_a_key_is_given_no_scope_that_keys_can_not_hold_and_none_its_maker_lacks() -> None:
    owner = scopes_of(Role.OWNER)
    assert grantable(None, owner) == KEY_SCOPES
    for scope in ("account:write", "sso:write", "credits:grant", "agents:destroy"):
        with pytest.raises(InvalidRequest, match="Unknown"):
            grantable(frozenset({scope}), owner)
    with pytest.raises(InvalidRequest, match="lack"):
        grantable(frozenset({"keys:write"}), scopes_of(Role.MEMBER))
