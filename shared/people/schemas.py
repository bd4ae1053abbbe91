"""Public JSON of registration, signing in, sessions and one's own account."""

from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, SecretStr, WithJsonSchema

from shared.kernel.addresses import fold_email
from shared.kernel.caller import Caller
from shared.kernel.errors import InvalidRequest
from shared.kernel.fields import Input, Metadata, OrgId, Output, SessionId, UserId
from shared.people.model import Person, Session, SignedIn

_MAX_PASSWORD = 256


def _folded(email: str) -> str:
    try:
        return fold_email(email)
    except InvalidRequest as error:
        raise ValueError(error.message.removeprefix("email: ")) from error


def _printable(name: str) -> str:
    name = name.strip()
    if not name or not name.isprintable():
        raise ValueError("must have at least one character, and no control characters.")
    return name


Email = Annotated[str, Field(max_length=320, examples=["ada@example.org"]), AfterValidator(_folded)]
Name = Annotated[str, Field(min_length=1, max_length=100, examples=["Ada"]), AfterValidator(_printable)]
# Secrets stay out of every representation, of errors and of logs.
Password = Annotated[
    SecretStr,
    Field(max_length=_MAX_PASSWORD),
    WithJsonSchema(
        {
            "type": "string",
            "format": "password",
            "maxLength": _MAX_PASSWORD,
            "description": "12 to 256 characters, and none of the first that would be guessed.",
            "examples": ["seven lamps over the harbour"],
        }
    ),
]
LinkToken = Annotated[
    SecretStr,
    Field(max_length=128),
    WithJsonSchema(
        {
            "type": "string",
            "maxLength": 128,
            "description": "What follows `=` in the letter's link.",
            "examples": ["Zq3vN0b1cS7xkT2mW9eLrYpUaHgJdFiOoQwErTyUiPs"],
        }
    ),
]
RefreshToken = Annotated[
    SecretStr,
    Field(max_length=128),
    WithJsonSchema(
        {
            "type": "string",
            "maxLength": 128,
            "description": "From the last sign-in or refresh; good once.",
            "examples": ["ry_refresh_Zq3vN0b1cS7xkT2mW9eLrYpUaHgJdFiOoQwErTyUiPs"],
        }
    ),
]
Totp = Annotated[str, Field(pattern=r"^[0-9]{6}$", description="The authenticator's six digits.", examples=["123456"])]
Code = Annotated[
    str, Field(min_length=6, max_length=32, description="Six digits, or a recovery code.", examples=["123456"])
]


class Register(Input):
    email: Email
    name: Name
    password: Password


class ConfirmEmail(Input):
    token: LinkToken
    password: Annotated[Password, Field(description="The one chosen at registration.")]


class Login(Input):
    email: Email
    password: Password
    totp: Annotated[Totp | None, Field(description="Where a second factor is on.", examples=[None])] = None
    recovery_code: Annotated[
        str | None, Field(max_length=32, description="Instead of `totp`, each good once.", examples=[None])
    ] = None


class Refresh(Input):
    refresh_token: RefreshToken
    org_id: Annotated[OrgId | None, Field(description="The org to go over to.", examples=[None])] = None


class Logout(Input):
    refresh_token: RefreshToken


class ForgotPassword(Input):
    email: Email


class ResetPassword(Input):
    token: LinkToken
    password: Password


class UpdateMe(Input):
    name: Name | None = None
    metadata: Metadata | None = None


class ChangePassword(Input):
    current_password: Password
    new_password: Password


class ConfirmTotp(Input):
    code: Totp


class RemoveTotp(Input):
    """One of the two proves that it is you."""

    current_password: Password | None = None
    code: Code | None = None

    def password(self) -> str | None:
        return None if self.current_password is None else self.current_password.get_secret_value()


class RenewRecoveryCodes(Input):
    code: Code


class AcceptedOut(Output):
    """It will be done. Whether there is an account with this address is not for this answer to tell."""

    object: Literal["accepted"] = "accepted"


class PasswordOut(Output):
    object: Literal["password_set"] = "password_set"


class SignedInOut(Output):
    object: Literal["signed_in"] = "signed_in"
    access_token: str = Field(description="Send it as `Authorization: Bearer …`.")
    token_type: Literal["Bearer"] = "Bearer"  # noqa: S105 - a kind of token
    expires_in: int = Field(description="Seconds until the access token ends.", examples=[900])
    refresh_token: str = Field(description="Good once, for the next pair of tokens.")
    org_id: OrgId
    user_id: UserId
    session_id: SessionId

    @classmethod
    def of(cls, signed_in: SignedIn) -> Self:
        return cls(
            access_token=signed_in.access_token.text,
            expires_in=signed_in.access_token.expires_in_s,
            refresh_token=signed_in.refresh_token,
            org_id=signed_in.session.org_id,
            user_id=signed_in.session.user_id,
            session_id=signed_in.session.id,
        )


class SessionOut(Output):
    id: SessionId
    object: Literal["session"] = "session"
    current: bool = Field(description="Whether it is the one that asks.")
    org_id: OrgId
    org_locked: bool = Field(description="Opened by an org's own sign-in, and good in that org alone.")
    method: str = Field(examples=["password+totp"])
    ip: str
    user_agent: str
    created_at: datetime
    last_used_at: datetime
    expires_at: datetime
    ended_at: datetime | None

    @classmethod
    def of(cls, session: Session, caller: Caller) -> Self:
        return cls(
            id=session.id,
            current=session.id == caller.session_id,
            org_id=session.org_id,
            org_locked=session.org_locked,
            method=session.method,
            ip=session.ip,
            user_agent=session.user_agent,
            created_at=session.created_at,
            last_used_at=session.last_used_at,
            expires_at=session.expires_at,
            ended_at=session.ended_at,
        )


class SessionsEndedOut(Output):
    object: Literal["sessions_ended"] = "sessions_ended"
    count: int


class MeOut(Output):
    """Who calls, and in which org. The fields about a person are null for an API key."""

    object: Literal["caller"] = "caller"
    org_id: OrgId
    actor_id: str = Field(examples=["key_01h455vb4pex5vsknk084sn02q"])
    role: str
    scopes: list[str]
    plan: str
    user_id: UserId | None
    name: str | None
    email: str | None
    has_password: bool | None
    has_second_factor: bool | None
    metadata: Metadata | None
    session_id: SessionId | None

    @classmethod
    def of(cls, caller: Caller, person: Person | None) -> Self:
        return cls(
            org_id=caller.org_id,
            actor_id=caller.actor_id,
            role=caller.role,
            scopes=sorted(caller.scopes),
            plan=caller.plan,
            user_id=None if person is None else person.id,
            name=None if person is None else person.name,
            email=None if person is None else person.email,
            has_password=None if person is None else person.has_password,
            has_second_factor=None if person is None else person.has_second_factor,
            metadata=None if person is None else person.metadata,
            session_id=caller.session_id,
        )


class TotpOut(Output):
    """Give one of the two to an authenticator app, then send its first code to `/v1/me/totp/confirm`."""

    object: Literal["totp"] = "totp"
    secret: str | None = Field(None, description="Base32: in this answer only.")
    otpauth_uri: str | None = Field(None, description="For a QR code: in this answer only.")

    @classmethod
    def of(cls, secret: str, uri: str) -> Self:
        return cls(secret=secret, otpauth_uri=uri)


class RecoveryCodesOut(Output):
    object: Literal["recovery_codes"] = "recovery_codes"
    recovery_codes: list[str] | None = Field(None, description="Each good once: in this answer only.")


class TotpRemovedOut(Output):
    object: Literal["totp_removed"] = "totp_removed"
