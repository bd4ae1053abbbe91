"""An access token says for 15 minutes who somebody is, in which session and which org; which keys sign is decided here.

Nothing here trusts a token: `claims_of` is given what a good signature covers, and checks it all the same.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Self
from uuid import UUID

from shared.kernel import ids
from shared.kernel.errors import InvalidRequest, InvalidToken, TokenExpired, TokenNotForUs, TokenNotYetValid

AUDIENCE = "runyard-api"
TOKEN_LIFETIME = timedelta(minutes=15)
# Clocks of two machines differ by this much at most.
LEEWAY = timedelta(seconds=5)

SIGNS_FOR = timedelta(days=30)
# Whoever keeps a copy of our public keys for an hour still knows the next one when it begins to sign.
PUBLISHED_AHEAD = timedelta(hours=1)
# Rotation runs daily: the next key is there in time even when one run fails.
MADE_AHEAD = timedelta(days=2)
VERIFIES_AFTER_LAST = TOKEN_LIFETIME + timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class AccessToken:
    """A token as it is handed out, once: it is never stored."""

    text: str
    expires_in_s: int

    def __repr__(self) -> str:
        return f"AccessToken(expires_in_s={self.expires_in_s})"


@dataclass(frozen=True, slots=True)
class Claims:
    """What a valid token says. Whether the session still lives is for `identity` to ask."""

    user_id: UUID
    session_id: UUID
    org_id: UUID
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A key pair: the public half, and from when to when each half is used. The private half stays in the store."""

    kid: str
    public_jwk: dict[str, str]
    signs_from: datetime
    signs_until: datetime
    verifies_until: datetime

    @classmethod
    def starting(cls, moment: datetime, *, kid: str, public_jwk: dict[str, str]) -> Self:
        """Return a key that signs for its time from this moment on."""
        until = moment + SIGNS_FOR
        return cls(kid, public_jwk, moment, until, until + VERIFIES_AFTER_LAST)


def signer_among(keys: Sequence[SigningKey], now: datetime) -> SigningKey | None:
    """Return the one key that signs at this moment: of several the one that began last. All processes choose alike."""
    signing = [key for key in keys if key.signs_from <= now < key.signs_until]
    return max(signing, key=lambda key: (key.signs_from, key.kid), default=None)


def successor_begins(keys: Sequence[SigningKey], now: datetime) -> datetime | None:
    """Return from when a further key has to sign, or None while none is needed yet."""
    if signer_among(keys, now) is None:
        return now
    last = max(key.signs_until for key in keys)
    return max(last, now + PUBLISHED_AHEAD) if last - now < MADE_AHEAD else None


def claims_for(
    *, issuer: str, user_id: UUID, session_id: UUID, org_id: UUID, now: datetime, token_id: UUID
) -> dict[str, str | int]:
    """Return the claims of a new token."""
    issued = int(now.timestamp())
    return {
        "iss": issuer,
        "aud": AUDIENCE,
        "sub": ids.show("user", user_id),
        "sid": ids.show("ses", session_id),
        "org": ids.show("org", org_id),
        "iat": issued,
        "nbf": issued,
        "exp": issued + int(TOKEN_LIFETIME.total_seconds()),
        "jti": str(token_id),
    }


def claims_of(payload: Mapping[str, Any], *, issuer: str, now: datetime) -> Claims:
    """Return what the payload of a token with a good signature says.

    Raises `TokenNotForUs`, `TokenExpired`, `TokenNotYetValid`, or `InvalidToken` for what we would never have issued.
    """
    if payload.get("iss") != issuer or payload.get("aud") != AUDIENCE:
        raise TokenNotForUs("This access token is of another issuer or for another audience.")
    expires, issued, begins = (_seconds(payload, name) for name in ("exp", "iat", "nbf"))
    seconds = now.timestamp()
    if expires <= seconds:
        raise TokenExpired("This access token has expired; get a new one with the refresh token.")
    if max(issued, begins) > seconds + LEEWAY.total_seconds():
        raise TokenNotYetValid("This access token is not valid yet.")
    if expires - issued > TOKEN_LIFETIME.total_seconds():
        raise InvalidToken("This access token is valid for longer than any of ours.")
    try:
        return Claims(
            user_id=ids.read("user", payload.get("sub", "")),
            session_id=ids.read("ses", payload.get("sid", "")),
            org_id=ids.read("org", payload.get("org", "")),
            expires_at=datetime.fromtimestamp(expires, UTC),
        )
    except InvalidRequest as error:
        raise InvalidToken("This access token names no person, session and org of ours.") from error


def _seconds(payload: Mapping[str, Any], name: str) -> int:
    value = payload.get(name)
    if type(value) is not int:
        raise InvalidToken("This access token lacks one of its times.")
    return value
