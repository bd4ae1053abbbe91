"""When keys expire: new ones, test keys, and both keys of a rotation."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from shared.identity.model import ApiKey, KeyMode, KeyNotRotatable, KeySecret, key_expiry
from shared.kernel import ids
from shared.kernel.errors import InvalidRequest

NOW = datetime(2026, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)


def key(**fields: Any) -> ApiKey:
    values: dict[str, Any] = {
        "id": ids.new(),
        "mode": KeyMode.LIVE,
        "name": "K",
        "hint": "ry_live_abcd…wxyz",
        "role": "api",
        "scopes": frozenset(),
        "metadata": {},
        "rate_limit_per_minute": None,
        "service_account_id": None,
        "replaced_by": None,
        "created_at": NOW - 20 * DAY,
        "last_used_at": None,
        "expires_at": None,
        "revoked_at": None,
    }
    return ApiKey(**(values | fields))


@pytest.mark.parametrize("mode", KeyMode)
def test_a_secret_says_its_mode_and_is_accepted(mode: KeyMode) -> None:
    secret = KeySecret.generate(mode)
    assert KeySecret.parse(secret.text).mode is mode
    assert secret.text.startswith(f"ry_{mode}_")


@pytest.mark.parametrize(
    ("mode", "asked", "expected"),
    [
        (KeyMode.LIVE, None, None),
        (KeyMode.LIVE, NOW + 1000 * DAY, NOW + 1000 * DAY),
        (KeyMode.TEST, None, NOW + 30 * DAY),
        (KeyMode.TEST, NOW + DAY, NOW + DAY),
        (KeyMode.TEST, NOW + 90 * DAY, NOW + 90 * DAY),
    ],
)
def test_a_new_key_expires_as_asked_and_a_test_key_always(
    mode: KeyMode, asked: datetime | None, expected: datetime | None
) -> None:
    assert key_expiry(mode, asked, NOW) == expected


@pytest.mark.parametrize(
    ("mode", "asked"),
    [(KeyMode.LIVE, NOW), (KeyMode.TEST, NOW - DAY), (KeyMode.TEST, NOW + 90 * DAY + timedelta(seconds=1))],
)
def test_an_expiry_that_a_key_can_not_have_is_refused(mode: KeyMode, asked: datetime) -> None:
    with pytest.raises(InvalidRequest, match="expires_at"):
        key_expiry(mode, asked, NOW)


def test_a_successor_lives_as_long_as_the_key_was_given() -> None:
    assert key().successor_expires_at(NOW) is None
    assert key(expires_at=NOW + 10 * DAY).successor_expires_at(NOW) == NOW + 30 * DAY


@pytest.mark.parametrize(
    "fields",
    [
        {"role": "operator"},
        {"revoked_at": NOW - DAY},
        {"replaced_by": ids.new(), "expires_at": NOW + DAY},
        {"expires_at": NOW},
    ],
    ids=["operator", "revoked", "replaced", "expired"],
)
def test_a_key_that_is_not_in_use_has_no_successor(fields: dict[str, Any]) -> None:
    with pytest.raises(KeyNotRotatable):
        key(**fields).successor_expires_at(NOW)


def test_an_overlap_ends_when_asked_or_when_the_key_would_have() -> None:
    assert key().overlapping(NOW, DAY) == NOW + DAY
    assert key(expires_at=NOW + 10 * DAY).overlapping(NOW, DAY) == NOW + DAY
    assert key(expires_at=NOW + DAY).overlapping(NOW, 7 * DAY) == NOW + DAY
