"""API keys: what they look like, and that they never show."""

import pytest

from shared.identity.model import KEY_FORMAT, KeySecret
from shared.identity.policy import KEY_SCOPES, grantable
from shared.kernel.errors import InvalidRequest, Unauthenticated
from shared.orgs.model import slug_of


def test_a_generated_key_has_the_documented_format_and_is_accepted() -> None:
    secret = KeySecret.generate()
    assert KEY_FORMAT.fullmatch(secret.text)
    assert KeySecret.parse(secret.text) == secret


def test_two_keys_differ() -> None:
    assert len({KeySecret.generate().text for _ in range(1_000)}) == 1_000


def test_a_mistyped_key_is_refused_before_any_look_up() -> None:
    text = KeySecret.generate().text
    wrong = text[:10] + ("a" if text[10] != "a" else "b") + text[11:]
    with pytest.raises(Unauthenticated, match="mistyped"):
        KeySecret.parse(wrong)


@pytest.mark.parametrize(
    "text", ["", "ry_live_", "sk-" + "a" * 40, "ry_live_" + "A" * 32, "ry_live_" + "a" * 1_000_000]
)
def test_what_is_no_key_is_refused(text: str) -> None:
    with pytest.raises(Unauthenticated):
        KeySecret.parse(text)


def test_the_representation_of_a_key_does_not_show_it() -> None:
    secret = KeySecret.generate()
    assert secret.text not in repr(secret)
    assert secret.text not in f"{secret}"


def test_a_key_cannot_grant_what_it_lacks() -> None:
    with pytest.raises(InvalidRequest, match="runs:write"):
        grantable(frozenset({"runs:write"}), frozenset({"runs:read", "keys:write"}))


def test_a_key_grants_all_its_own_scopes_by_default_and_never_the_operators() -> None:
    assert grantable(None, KEY_SCOPES | {"orgs:write"}) == KEY_SCOPES


def test_an_unknown_scope_is_named() -> None:
    with pytest.raises(InvalidRequest, match="cats:write"):
        grantable(frozenset({"cats:write"}), KEY_SCOPES)


@pytest.mark.parametrize(("name", "expected"), [("Acme, Inc.", "acme-inc-x1"), ("数据", "x1"), ("--", "x1")])
def test_a_slug_is_made_of_the_name(name: str, expected: str) -> None:
    assert slug_of(name, None, fallback="x1") == expected


@pytest.mark.parametrize("slug", ["", "-a", "a-", "A", "a b", "a" * 49])
def test_what_is_no_slug_is_refused(slug: str) -> None:
    with pytest.raises(InvalidRequest):
        slug_of("Acme", slug, fallback="x1")
