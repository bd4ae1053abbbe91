"""What reaches the audit trail of a change: no secret, and no more than can be read."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.audit.redaction import MAX_BYTES, MAX_TEXT, REDACTED, cleaned, is_secret

SECRETS = [
    "password", "new_password", "passwordHash", "client_secret", "secret", "refresh_token", "accessToken", "token",
    "authorization", "Authorization", "api_key", "apiKey", "API-KEY", "private_key", "privateKeyPem", "totp",
    "totp_secret", "code", "recovery_codes", "recovery_code", "cookie", "set-cookie", "jwt", "signing_key", "pin",
    "code_verifier", "nonce", "credentials", "passphrase", "otpauth",
]  # fmt: skip
PLAIN = [
    "name", "scopes", "role", "expires_at", "country_code", "status_code", "monkey", "key_id", "author", "mode",
    "spinning", "keyboard", "encoded", "metadata", "email", "hint", "service_account_id",
]  # fmt: skip


@pytest.mark.parametrize("name", SECRETS)
def test_a_field_that_sounds_like_a_secret_is_not_kept(name: str) -> None:
    assert is_secret(name)
    assert cleaned({"outer": [{name: "hunter2 hunter2"}]}) == {"outer": [{name: REDACTED}]}


@pytest.mark.parametrize("name", PLAIN)
def test_other_fields_are_kept(name: str) -> None:
    assert cleaned({name: "as it was"}) == {name: "as it was"}


def test_a_secret_is_replaced_whatever_it_holds_and_whether_there_is_one_is_kept() -> None:
    assert cleaned({"password": {"a": 1}, "code": 123456, "tokens": ["a"]}) == {
        "password": REDACTED,
        "code": REDACTED,
        "tokens": REDACTED,
    }
    assert cleaned({"password": None, "totp": True, "max_tokens": 100, "tokens_per_minute": 9}) == {
        "password": None,
        "totp": True,
        "max_tokens": 100,
        "tokens_per_minute": 9,
    }


@pytest.mark.parametrize(
    "text",
    [
        "ry_live_abcdefghijklmnopqrstuvwxyz234567",
        "ry_refresh_0123456789-_ABCDEFGHIJKLMNOPQRSTUVWXYZabcde",
        "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJ1c2VyIn0.c2lnbmF0dXJl",
        "-----BEGIN PRIVATE KEY-----\nMIGHAgEAMBMGByqGSM49\n-----END PRIVATE KEY-----",
    ],
)
def test_what_looks_like_a_secret_is_replaced_under_any_name(text: str) -> None:
    kept = cleaned({"note": f"look: {text}", "list": [text]})
    assert kept == {"note": f"look: {REDACTED}", "list": [REDACTED]}


def test_long_text_is_cut_and_what_is_huge_is_told_by_its_size() -> None:
    kept = cleaned({"text": "a" * (MAX_TEXT + 5)})
    assert kept == {"text": f"{'a' * MAX_TEXT}… ({MAX_TEXT + 5} characters)"}
    huge = cleaned({f"field_{n}": "b" * 1000 for n in range(100)})
    assert huge is not None
    assert huge["truncated"] is True
    assert huge["bytes"] > MAX_BYTES
    assert len(huge["fields"]) == 50


def test_nothing_stays_nothing() -> None:
    assert cleaned(None) is None
    assert cleaned({}) == {}


def test_a_value_of_any_depth_comes_to_an_end() -> None:
    nested: dict[str, Any] = {}
    for _ in range(5_000):
        nested = {"a": nested}
    assert "[too deep]" in str(cleaned({"a": nested}))


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(st.text(), _JSON, max_size=5))
def test_cleaning_twice_changes_nothing_more(facts: dict[str, Any]) -> None:
    once = cleaned(facts)
    assert cleaned(once) == once
