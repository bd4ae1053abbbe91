"""What claims make of somebody: a role that the owner mapped, a name that can be shown, no address of anybody's."""

from typing import Any

import pytest

from shared.identity.policy import Role
from shared.kernel import clock, ids
from shared.kernel.addresses import fold_email
from shared.kernel.errors import InvalidRequest
from shared.logins.model import NoRole, SsoConnection, check_roles, readable_name, stand_in_address

MAP = {"ops": "admin", "dev": "member", "audit": "viewer"}


def connection(default: str | None = None, claim: str | None = "groups") -> SsoConnection:
    now = clock.now()
    return SsoConnection(ids.new(), "https://id.example.com", "us", b"", claim, MAP, default, now, now)


@pytest.mark.parametrize(
    ("given", "role"),
    [
        ("ops", Role.ADMIN),
        ("audit", Role.VIEWER),
        (["audit", "dev"], Role.MEMBER),
        (["dev", "ops", "audit"], Role.ADMIN),
    ],
)
def test_the_highest_mapped_role_counts(given: Any, role: Role) -> None:
    assert connection("viewer").role_of({"groups": given}) is role


@pytest.mark.parametrize("given", [None, "", "OPS", [], ["x"], {"ops": 1}, 1, True, [["ops"]]])
def test_whatever_is_not_mapped_gives_the_default_role_or_none(given: Any) -> None:
    assert connection("viewer").role_of({"groups": given}) is Role.VIEWER
    with pytest.raises(NoRole):
        connection().role_of({"groups": given})


def test_without_a_claim_everybody_has_the_default_role() -> None:
    assert connection("member", claim=None).role_of({"groups": "ops"}) is Role.MEMBER


@pytest.mark.parametrize(("role_map", "default"), [({"x": "owner"}, None), ({}, "owner"), ({"x": "api"}, "member")])
def test_an_issuer_gives_no_ownership_and_no_role_of_a_key(role_map: dict[str, str], default: str | None) -> None:
    with pytest.raises(InvalidRequest):
        check_roles(role_map, default)
    check_roles(MAP, "member")


@pytest.mark.parametrize(
    ("given", "email", "name"),
    [
        ("Grace", None, "Grace"),
        ("  Gr\x00ace\u202e \n", None, "Grace"),
        ("", "grace@example.com", "grace"),
        (None, "grace@example.com", "grace"),
        (["Grace"], None, "Somebody"),
        ("\u200b", "", "Somebody"),
        ("x" * 300, None, "x" * 100),
    ],
)
def test_a_name_can_always_be_shown(given: object, email: str | None, name: str) -> None:
    assert readable_name(given, email) == name


def test_what_stands_for_an_address_can_be_nobodys() -> None:
    org_id = ids.new()
    address = stand_in_address("https://id.example.com", "u-1", org_id)
    assert address == address.lower()
    assert address != stand_in_address("https://id.example.com", "u-2", org_id)
    with pytest.raises(InvalidRequest):
        fold_email(address)
