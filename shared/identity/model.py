"""An API key acts for exactly one org with fixed scopes, and its secret is never stored."""

import binascii
import hashlib
import re
import secrets
from base64 import b32encode
from dataclasses import dataclass
from datetime import datetime
from typing import Self
from uuid import UUID

from shared.kernel.errors import Unauthenticated

# The platform's own org: its operator key creates tenants. Fixed, so that every deploy finds the same one.
OPERATOR_ORG_ID = UUID("00000000-0000-7000-8000-000000000001")

_SECRET_LENGTH = 26
_CHECKSUM_LENGTH = 6
KEY_FORMAT = re.compile(r"ry_(live|test)_[a-z2-7]{32}")


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key as it is stored: `hint` shows its first and last characters, `secret_sha256` finds it."""

    id: UUID
    name: str
    hint: str
    role: str
    scopes: frozenset[str]
    metadata: dict[str, str]
    created_at: datetime
    last_used_at: datetime | None
    expires_at: datetime | None
    revoked_at: datetime | None


@dataclass(frozen=True, slots=True)
class KeySecret:
    """The text of an API key, `ry_live_<26 base32><6 checksum>`: 130 random bits and a CRC-32 that catches typos.

    At this entropy a plain SHA-256 is enough to store; a slow hash would only slow the authorizer.
    """

    text: str

    @classmethod
    def generate(cls) -> Self:
        body = b32encode(secrets.token_bytes(17)).decode().lower()[:_SECRET_LENGTH]
        return cls(f"ry_live_{body}{_checksum(body)}")

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
    def sha256(self) -> bytes:
        return hashlib.sha256(self.text.encode()).digest()

    @property
    def hint(self) -> str:
        return f"{self.text[:12]}…{self.text[-4:]}"

    def __repr__(self) -> str:
        return f"KeySecret({self.hint})"


def _checksum(body: str) -> str:
    # 30 of CRC-32's 32 bits make exactly six base32 characters.
    crc = binascii.crc32(body.encode()) & 0x3FFFFFFF
    return b32encode((crc << 2).to_bytes(4)).decode().lower()[:_CHECKSUM_LENGTH]
