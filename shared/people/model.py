"""A person is who confirmed their address; what they prove themselves with is never kept as it is."""

import hashlib
import re
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from ipaddress import IPv6Address, ip_address
from typing import TYPE_CHECKING, Any
from uuid import UUID

from shared.kernel.errors import Conflict, Forbidden, InvalidRequest, RateLimited, Unauthenticated

if TYPE_CHECKING:
    from shared.tokens.model import AccessToken

# Owns what is written so that an unknown address costs as much as a known one.
NOBODY = UUID(int=0)
# A session ends after this long, however often it is refreshed.
SESSION_LIFETIME = timedelta(days=30)
REFRESH_TOKEN_PREFIX = "ry_refresh_"  # noqa: S105 - a prefix
RECOVERY_CODES = 10

_REFRESH_TOKEN_FORMAT = re.compile(REFRESH_TOKEN_PREFIX + r"[A-Za-z0-9_-]{43}")
# RFC 5321's lengths; the characters of HTML's own check of an address. SES takes no others in a local part.


class PasswordRefused(InvalidRequest):
    """Too short, too long, too common, or made of your own name or address; the message says which."""

    code = "password_refused"


class InvalidCredentials(Unauthenticated):
    """No account has this e-mail address and password."""

    code = "invalid_credentials"


class TotpRequired(Unauthenticated):
    """The password is right and a second factor is on: send `totp` or `recovery_code` too."""

    code = "totp_required"


class SecondFactorRefused(Unauthenticated):
    """The one-time code or recovery code is wrong, or was used before."""

    code = "second_factor_refused"


class ProofRefused(Forbidden):
    """The current password or code that must prove it is you is wrong."""

    code = "proof_refused"


class TooManyAttempts(RateLimited):
    """Too many attempts for this account or from your address: wait for as many seconds as Retry-After says."""

    code = "too_many_attempts"


class InvalidRefreshToken(Unauthenticated):
    """This is no refresh token of ours."""

    code = "invalid_refresh_token"


class RefreshTokenReused(Unauthenticated):
    """This refresh token was used before. Somebody may have stolen it, so the session has ended: sign in again."""

    code = "refresh_token_reused"


class LinkInvalid(InvalidRequest):
    """The link from the letter is mistyped, was used already, or is too old: ask for a new letter."""

    code = "link_invalid"


class EmailTaken(Conflict):
    """There is an account with this address by now: sign in."""

    code = "email_taken"


class NoOrg(Forbidden):
    """You belong to no org any more: somebody has to invite you to one."""

    code = "no_org"


class NotAPerson(Forbidden):
    """Only a person who signed in has an account; API keys do not."""

    code = "not_a_person"


class SecondFactorOn(Conflict):
    """A second factor is on already: turn it off first."""

    code = "second_factor_on"


class SecondFactorOff(Conflict):
    """No second factor is on, or its set-up was not begun."""

    code = "second_factor_off"


@dataclass(frozen=True, slots=True)
class Visitor:
    """Whoever sends a request without having signed in: what is known of them."""

    ip: str
    user_agent: str
    request_id: str


@dataclass(frozen=True, slots=True)
class Person:
    id: UUID
    email: str
    name: str
    has_password: bool
    has_second_factor: bool
    metadata: dict[str, str]
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class Credentials:
    """What proves that somebody is this person."""

    user_id: UUID
    email: str
    name: str
    password_hash: str | None = field(repr=False)
    totp_wrapped: bytes | None = field(repr=False)
    totp_on: bool


@dataclass(frozen=True, slots=True)
class Session:
    """A family of refresh tokens, of which only the newest is good. `org_locked`: it may not leave its org."""

    id: UUID
    user_id: UUID
    org_id: UUID
    org_locked: bool
    method: str
    ip: str
    user_agent: str
    created_at: datetime
    last_used_at: datetime
    expires_at: datetime
    ended_at: datetime | None
    ended_because: str | None

    def is_open(self, now: datetime) -> bool:
        return self.ended_at is None and self.expires_at > now


@dataclass(frozen=True, slots=True)
class OpenedSession:
    session: Session
    refresh_token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class SignedIn:
    """A session with the tokens to use it: what signing in gives."""

    session: Session
    refresh_token: str = field(repr=False)
    access_token: "AccessToken" = field(repr=False)


@dataclass(frozen=True, slots=True)
class Letter:
    """A letter to be sent. One with a link gets its secret when it is sent; only the secret's hash is kept."""

    id: UUID
    user_id: UUID
    purpose: str
    email: str
    params: dict[str, Any] = field(repr=False)
    sent_at: datetime | None
    used_at: datetime | None
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Limit:
    """So many attempts are free; each further one must wait twice as long as the one before, `longest_s` at most.

    Counts start anew after `forget_after_s` without an attempt.
    """

    name: str
    free: int
    forget_after_s: int
    longest_s: int = 900

    def subject(self, of: str) -> bytes:
        """Return the key of the counter: a hash, so that the counters tell nobody's address."""
        return hashlib.sha256(f"{self.name}:{of}".encode()).digest()


_HOUR_S, _DAY_S = 3600, 86400
# Guesses at one account, and from one address at any.
OF_ACCOUNT = Limit("email", free=5, forget_after_s=_DAY_S)
OF_ADDRESS = Limit("address", free=30, forget_after_s=_HOUR_S)
# Guesses of somebody signed in at the password or code of that account, and at the password beside a letter's link.
OF_PERSON = Limit("person", free=5, forget_after_s=_DAY_S)
OF_LINK = Limit("link", free=5, forget_after_s=_DAY_S)
# Letters to one address, and asked for from one: nobody's inbox is flooded.
# Sign-ins begun elsewhere, each of which is remembered for ten minutes.
OF_STARTS = Limit("starts", free=60, forget_after_s=_HOUR_S)
OF_LETTERS_TO = Limit("letters-to", free=5, forget_after_s=_HOUR_S)
OF_LETTERS_FROM = Limit("letters-from", free=20, forget_after_s=_HOUR_S)


def network_of(ip: str) -> str:
    """Return whose counter an address counts on: IPv6 clients have a /64 of their own to choose addresses from."""
    try:
        address = ip_address(ip)
    except ValueError:
        return ip
    if isinstance(address, IPv6Address) and address.ipv4_mapped is None:
        return f"{IPv6Address(int(address) >> 64 << 64)}/64"
    return str(address)


def sha256_of_refresh_token(text: str) -> bytes:
    """Return what the token is found by: at 256 random bits no slow hash is needed. Raises `InvalidRefreshToken`."""
    if _REFRESH_TOKEN_FORMAT.fullmatch(text) is None:
        raise InvalidRefreshToken("Not a refresh token: expected ry_refresh_ followed by 43 characters.")
    return hashlib.sha256(text.encode()).digest()


def sha256_of_link(text: str) -> bytes:
    """Return what the secret of a letter's link is found by."""
    return hashlib.sha256(text.encode(errors="replace")).digest()
