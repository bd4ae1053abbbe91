"""Public JSON of identities and orgs' own sign-ins."""

from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import BaseModel, Field

from shared.kernel.fields import IdentityId, Input, OrgId, Output
from shared.logins.model import SSO, Identity, SsoConnection
from shared.logins.service import redirect_uri

# What an OAuth client may be called (RFC 6749, appendix A): printable ASCII, here without blanks.
_Credential = Annotated[str, Field(min_length=1, max_length=500, pattern=r"^[!-~]+$")]
_Given = Annotated[str | None, Field(max_length=4096)]
SsoRole = Literal["admin", "member", "viewer"]


class PutSso(Input):
    issuer: Annotated[
        str,
        Field(
            min_length=1,
            max_length=400,
            examples=["https://id.example.com"],
            description="Its discovery document is fetched and checked.",
        ),
    ]
    client_id: _Credential
    client_secret: Annotated[_Credential, Field(description="Never shown again.")]
    role_claim: Annotated[
        str | None,
        Field(
            min_length=1,
            max_length=200,
            examples=["groups"],
            description="The claim that says the role: text or a list.",
        ),
    ] = None
    role_map: Annotated[
        dict[Annotated[str, Field(min_length=1, max_length=200)], SsoRole],
        Field(max_length=100, description="Which value of the claim stands for which role; the highest one counts."),
    ] = {}
    default_role: Annotated[
        SsoRole | None, Field(description="For everybody else the issuer signs in; nobody else may sign in without it.")
    ] = None


class Callback(BaseModel):
    """What the provider has the browser bring back; some bring more."""

    state: _Given = None
    code: _Given = None
    iss: _Given = None
    error: _Given = None


class SsoOut(Output):
    """An org's own sign-in; its client secret is never shown."""

    org_id: OrgId
    object: Literal["sso_connection"] = "sso_connection"
    issuer: str
    client_id: str
    role_claim: str | None
    role_map: dict[str, str]
    default_role: str | None
    redirect_uri: str = Field(description="To be registered with the issuer; it is this org's alone.")
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, connection: SsoConnection) -> Self:
        return cls(
            org_id=connection.org_id,
            issuer=connection.issuer,
            client_id=connection.client_id,
            role_claim=connection.role_claim,
            role_map=dict(connection.role_map),
            default_role=connection.default_role,
            redirect_uri=redirect_uri(SSO, connection.org_id),
            created_at=connection.created_at,
            updated_at=connection.updated_at,
        )


class IdentityOut(Output):
    """Who a person is elsewhere. With `org_id` it signs in to that org alone."""

    id: IdentityId
    object: Literal["identity"] = "identity"
    issuer: str
    subject: str
    org_id: OrgId | None
    email: str
    created_at: datetime
    last_used_at: datetime

    @classmethod
    def of(cls, identity: Identity) -> Self:
        return cls(
            id=identity.id,
            issuer=identity.issuer,
            subject=identity.subject,
            org_id=identity.org_id,
            email=identity.email,
            created_at=identity.created_at,
            last_used_at=identity.last_used_at,
        )


class AuthorizationOut(Output):
    """Where the browser goes next; it has to be the browser that was given the cookie with this answer."""

    object: Literal["authorization"] = "authorization"
    authorization_url: str | None = Field(None, description="In this answer only.")
