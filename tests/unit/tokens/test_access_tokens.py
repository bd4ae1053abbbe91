"""What an access token may say, and which key signs when: pure rules."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.kernel import ids
from shared.kernel.errors import InvalidToken, TokenExpired, TokenNotForUs, TokenNotYetValid
from shared.tokens.model import (
    LEEWAY,
    MADE_AHEAD,
    PUBLISHED_AHEAD,
    SIGNS_FOR,
    TOKEN_LIFETIME,
    VERIFIES_AFTER_LAST,
    AccessToken,
    SigningKey,
    claims_for,
    claims_of,
    signer_among,
    successor_begins,
)

ISSUER = "https://runyard.test"
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
USER, SESSION, ORG = ids.new(), ids.new(), ids.new()
SECOND = timedelta(seconds=1)


def payload(**changed: Any) -> dict[str, Any]:
    claims = claims_for(issuer=ISSUER, user_id=USER, session_id=SESSION, org_id=ORG, now=NOW, token_id=ids.new())
    return {name: value for name, value in (claims | changed).items() if value is not None}


def key(kid: str, signs_from: datetime) -> SigningKey:
    return SigningKey.starting(signs_from, kid=kid, public_jwk={})


def test_a_token_says_what_it_was_made_of() -> None:
    claims = claims_of(payload(), issuer=ISSUER, now=NOW)
    assert (claims.user_id, claims.session_id, claims.org_id) == (USER, SESSION, ORG)
    assert claims.expires_at == NOW + TOKEN_LIFETIME


def test_a_token_is_good_for_its_fifteen_minutes_and_not_a_second_more() -> None:
    assert claims_of(payload(), issuer=ISSUER, now=NOW + TOKEN_LIFETIME - SECOND)
    with pytest.raises(TokenExpired):
        claims_of(payload(), issuer=ISSUER, now=NOW + TOKEN_LIFETIME)


def test_a_clock_that_is_a_little_behind_is_forgiven() -> None:
    assert claims_of(payload(), issuer=ISSUER, now=NOW - LEEWAY)
    with pytest.raises(TokenNotYetValid):
        claims_of(payload(), issuer=ISSUER, now=NOW - LEEWAY - SECOND)


@pytest.mark.parametrize(
    ("changed", "error"),
    [
        ({"iss": "https://elsewhere.test"}, TokenNotForUs),
        ({"iss": None}, TokenNotForUs),
        ({"iss": [ISSUER]}, TokenNotForUs),
        ({"aud": "another"}, TokenNotForUs),
        ({"aud": ["runyard-api", "another"]}, TokenNotForUs),
        ({"aud": None}, TokenNotForUs),
        ({"nbf": int(NOW.timestamp()) + 60}, TokenNotYetValid),
        ({"iat": int(NOW.timestamp()) + 60}, TokenNotYetValid),
        ({"exp": None}, InvalidToken),
        ({"exp": "never"}, InvalidToken),
        ({"exp": True}, InvalidToken),
        ({"exp": 1e30}, InvalidToken),
        ({"exp": 10**30}, InvalidToken),
        ({"exp": int(NOW.timestamp()) + 3600}, InvalidToken),
        ({"iat": None}, InvalidToken),
        ({"iat": -(10**30)}, InvalidToken),
        ({"nbf": None}, InvalidToken),
        ({"sub": ids.show("key", USER)}, InvalidToken),
        ({"sub": str(USER)}, InvalidToken),
        ({"sub": ids.show("user", USER) + "\x00"}, InvalidToken),
        ({"sub": "user_" + "\x00" * 26}, InvalidToken),
        ({"sub": 1}, InvalidToken),
        ({"sub": None}, InvalidToken),
        ({"sid": ids.show("user", SESSION)}, InvalidToken),
        ({"sid": None}, InvalidToken),
        ({"org": {}}, InvalidToken),
        ({"org": None}, InvalidToken),
    ],
)
def test_a_claim_that_we_would_not_have_made_refuses_the_token(
    changed: dict[str, Any], error: type[InvalidToken]
) -> None:
    with pytest.raises(InvalidToken) as refused:
        claims_of(payload(**changed), issuer=ISSUER, now=NOW)
    assert type(refused.value) is error


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(), lambda inner: st.lists(inner, max_size=2)
)


@given(name=st.sampled_from(sorted(payload())), value=_json)
def test_no_value_of_a_claim_does_more_than_refuse_the_token(name: str, value: Any) -> None:
    if name == "jti" or payload()[name] == value:
        return
    try:
        claims_of(payload() | {name: value}, issuer=ISSUER, now=NOW)
    except InvalidToken:
        return
    assert name in {"exp", "iat", "nbf"}


def test_of_several_keys_the_one_that_began_last_signs_whatever_their_order() -> None:
    old, new, next_one = key("a", NOW - timedelta(days=29)), key("b", NOW), key("c", NOW + timedelta(days=1))
    twin = key("bb", NOW)
    assert signer_among([old, new, next_one], NOW) == new
    assert signer_among([next_one, twin, new, old], NOW) == signer_among([new, twin], NOW) == twin
    assert signer_among([next_one], NOW) is None
    assert signer_among([old], NOW + timedelta(days=2)) is None


def test_the_first_key_signs_at_once_and_needs_no_successor_for_long() -> None:
    assert successor_begins([], NOW) == NOW
    assert successor_begins([key("a", NOW)], NOW + SIGNS_FOR - MADE_AHEAD) is None


def test_a_successor_is_published_before_it_signs_and_leaves_no_gap() -> None:
    first = key("a", NOW)
    when = NOW + SIGNS_FOR - MADE_AHEAD + SECOND
    begins = successor_begins([first], when)
    assert begins == first.signs_until
    assert begins - when >= PUBLISHED_AHEAD
    assert successor_begins([first, key("b", begins)], when) is None


def test_a_year_of_daily_rotation_always_has_a_signer_whose_tokens_verify_to_their_end() -> None:
    keys = [key("0", NOW)]
    for day in range(1, 366):
        now = NOW + timedelta(days=day)
        if begins := successor_begins(keys, now):
            assert begins - now >= PUBLISHED_AHEAD
            keys.append(key(str(day), begins))
        signer = signer_among(keys, now)
        assert signer is not None
        assert signer.verifies_until >= now + TOKEN_LIFETIME + timedelta(hours=1)
    assert 12 <= len(keys) <= 14
    assert all(later.signs_from == earlier.signs_until for earlier, later in pairwise(keys))


def test_a_key_verifies_an_hour_longer_than_the_last_token_it_signed() -> None:
    made = key("a", NOW)
    assert made.verifies_until == made.signs_until + VERIFIES_AFTER_LAST
    assert TOKEN_LIFETIME + timedelta(hours=1) == VERIFIES_AFTER_LAST


def test_the_representation_of_a_token_does_not_show_it() -> None:
    assert "secret" not in repr(AccessToken("secret", 900))
