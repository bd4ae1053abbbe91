"""An API key acts for exactly one org with fixed scopes, and its secret is never stored."""

import binascii
import hashlib
import re
import secrets
from base64 import b32encode
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Self
from uuid import UUID

from shared.kernel.errors import Conflict, Forbidden, InvalidRequest, Unauthenticated

# The platform's own org: its operator key creates tenants. Fixed, so that every deploy finds the same one.
OPERATOR_ORG_ID = UUID("00000000-0000-7000-8000-000000000001")

_SECRET_LENGTH = 26
_CHECKSUM_LENGTH = 6
KEY_FORMAT = re.compile(r"ry_(live|test)_[a-z2-7]{32}")
TEST_KEY_LIFETIME = timedelta(days=30)
MAX_TEST_KEY_LIFETIME = timedelta(days=90)
# How long a rotated key works on beside its successor.
DEFAULT_OVERLAP_S = 24 * 3600
MAX_OVERLAP_S = 7 * 24 * 3600
MAX_RATE_LIMIT_PER_MINUTE = 1_000_000


class KeyNotRotatable(Conflict):
    """The key was revoked, has expired or was rotated before; only a key in use can be rotated."""

    code = "api_key_not_rotatable"


class KeyBeyondYours(Forbidden):
    """The key may do more than you, so you can't have its successor made."""

    code = "api_key_beyond_yours"


class ServiceAccountDisabled(Conflict):
    """The service account was disabled for good: it has no more keys and can't be changed."""

    code = "service_account_disabled"


class KeyMode(StrEnum):
    """What a key's text says it is for. A test key may do what a live one may, and always expires."""

    LIVE = "live"
    TEST = "test"


@dataclass(frozen=True, slots=True)
class ServiceAccount:
    """A program that owns keys. What its keys may do is within its scopes, whatever theirs are."""

    id: UUID
    name: str
    scopes: frozenset[str]
    metadata: dict[str, str]
    created_by: str
    created_at: datetime
    disabled_at: datetime | None

    def enabled(self) -> Self:
        """Return it; raise `ServiceAccountDisabled`."""
        if self.disabled_at is not None:
            raise ServiceAccountDisabled("This service account is disabled.")
        return self


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key as it is stored: `hint` shows its first and last characters, `secret_sha256` finds it."""

    id: UUID
    mode: KeyMode
    name: str
    hint: str
    role: str
    scopes: frozenset[str]
    metadata: dict[str, str]
    rate_limit_per_minute: int | None
    service_account_id: UUID | None
    replaced_by: UUID | None
    created_at: datetime
    last_used_at: datetime | None
    expires_at: datetime | None
    revoked_at: datetime | None

    def successor_expires_at(self, now: datetime) -> datetime | None:
        """Return when the key made by rotating this one expires: it lives as long as this one was given.

        Raises `KeyNotRotatable`.
        """
        if self.role != "api":
            raise KeyNotRotatable("The operator's key is replaced by its secret, not here.")
        if self.revoked_at is not None:
            raise KeyNotRotatable("This key was revoked.")
        if self.replaced_by is not None:
            raise KeyNotRotatable("This key was rotated before; rotate the one that replaced it.")
        if self.expires_at is None:
            return None
        if self.expires_at <= now:
            raise KeyNotRotatable("This key has expired.")
        return now + (self.expires_at - self.created_at)

    def overlapping(self, now: datetime, overlap: timedelta) -> datetime:
        """Return when this key stops working once it is replaced: never later than it would have."""
        return now + overlap if self.expires_at is None else min(self.expires_at, now + overlap)


@dataclass(frozen=True, slots=True)
class KeySecret:
    """The text of an API key, `ry_<mode>_<26 base32><6 checksum>`: 130 random bits and a CRC-32 that catches typos.

    At this entropy a plain SHA-256 is enough to store; a slow hash would only slow the authorizer.
    """

    text: str

    @classmethod
    def generate(cls, mode: KeyMode = KeyMode.LIVE) -> Self:
        body = b32encode(secrets.token_bytes(17)).decode().lower()[:_SECRET_LENGTH]
        return cls(f"ry_{mode}_{body}{_checksum(body)}")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raise `Unauthenticated` for what can't be a key, before anything is looked up."""
        if KEY_FORMAT.fullmatch(text) is None:
            raise Unauthenticated("Not an API key: expected ry_live_ followed by 32 characters.")
        body = text[-_SECRET_LENGTH - _CHECKSUM_LENGTH : -_CHECKSUM_LENGTH]
        if not secrets.compare_digest(text[-_CHECKSUM_LENGTH:], _checksum(body)):
            raise Unauthenticated("This API key is mistyped: its checksum does not fit.")
        return cls(text)

    @property
    def mode(self) -> KeyMode:
        return KeyMode(self.text.split("_")[1])

    @property
    def sha256(self) -> bytes:
        return hashlib.sha256(self.text.encode()).digest()

    @property
    def hint(self) -> str:
        return f"{self.text[:12]}…{self.text[-4:]}"

    def __repr__(self) -> str:
        return f"KeySecret({self.hint})"


def key_expiry(mode: KeyMode, asked: datetime | None, now: datetime) -> datetime | None:
    """Return when a new key expires, None: never; raise `InvalidRequest` for a time it can't have."""
    if asked is not None and asked <= now:
        raise InvalidRequest("expires_at: must be in the future.", param="expires_at")
    if mode is KeyMode.LIVE:
        return asked
    if asked is not None and asked > now + MAX_TEST_KEY_LIFETIME:
        days = MAX_TEST_KEY_LIFETIME.days
        raise InvalidRequest(f"expires_at: a test key lives {days} days at most.", param="expires_at")
    return asked or now + TEST_KEY_LIFETIME


def _checksum(body: str) -> str:
    # 30 of CRC-32's 32 bits make exactly six base32 characters.
    crc = binascii.crc32(body.encode()) & 0x3FFFFFFF
    return b32encode((crc << 2).to_bytes(4)).decode().lower()[:_CHECKSUM_LENGTH]
