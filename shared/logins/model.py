"""A sign-in elsewhere proves an identity: an issuer's word for a subject. An org's own counts in that org alone."""

import hashlib
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from shared.identity.policy import Role
from shared.kernel import ids
from shared.kernel.errors import Conflict, Forbidden, InvalidRequest, NotFound, ProviderFailed, Unauthenticated

SSO = "sso"
# From the start to the callback.
LIFETIME = timedelta(minutes=10)
# Highest first. Ownership is neither given nor taken by an issuer's word.
SSO_ROLES = (Role.ADMIN, Role.MEMBER, Role.VIEWER)
_LONGEST_NAME = 100


class ProviderNotConfigured(NotFound):
    """Sign-in with this provider is not set up here, or the org has no sign-in of its own."""

    code = "provider_not_configured"


class LoginStateInvalid(InvalidRequest):
    """This sign-in was begun more than ten minutes ago, elsewhere or in another browser, or is over: begin again."""

    code = "login_state_invalid"


class SignInRefused(Forbidden):
    """The provider did not let the person sign in, or they declined."""

    code = "sign_in_refused"


class EmailNotVerified(Forbidden):
    """The provider does not vouch for the person's e-mail address; confirm it there first."""

    code = "email_not_verified"


class NotAMember(Forbidden):
    """The person has an account and is no member of this org: they must accept an invitation first."""

    code = "not_a_member"


class NoRole(Forbidden):
    """The org's issuer names no role that the org's sign-in knows, and it has no default role."""

    code = "no_role"


class IdentityTaken(Conflict):
    """This identity signs in another person already; remove it there first."""

    code = "identity_taken"


class LastWayIn(Conflict):
    """A person without a password keeps at least one identity: set a password first."""

    code = "last_way_in"


class IssuerRefused(InvalidRequest):
    """The issuer can't be used: not https, not at a public address, or its discovery document does not hold."""

    code = "issuer_refused"


class IdentityProviderFailed(ProviderFailed):
    """The identity provider can't be reached, or answers with something that is no answer."""

    code = "identity_provider_failed"


class IdTokenRefused(Unauthenticated):
    """What the identity provider says of the person does not hold: a wrong signature, issuer, audience or nonce."""

    code = "id_token_refused"


class CodeRefused(Unauthenticated):
    """The identity provider does not take the code that came with the callback; begin again."""

    code = "code_refused"


@dataclass(frozen=True, slots=True)
class OidcClient:
    """Us, as an OpenID Connect issuer knows us."""

    issuer: str
    client_id: str
    client_secret: str


@dataclass(frozen=True, slots=True)
class GitHubClient:
    """Us, as GitHub knows us."""

    client_id: str
    client_secret: str
    authorize_url: str
    token_url: str
    api_url: str


type Client = OidcClient | GitHubClient


@dataclass(frozen=True, slots=True)
class Claims:
    """What an issuer says of somebody who signed in there. `email_verified` is None where it does not say."""

    issuer: str
    subject: str
    email: str | None
    email_verified: bool | None
    name: str
    everything: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Pending:
    """Half of a sign-in elsewhere: of an org's own with `org_id`; to add an identity to a person with `link_…`."""

    provider: str
    org_id: UUID | None
    link_user_id: UUID | None
    link_session_id: UUID | None
    nonce: str
    code_verifier: str


@dataclass(frozen=True, slots=True)
class Begun:
    """A sign-in just begun: where the browser goes, and the secret it must bring back beside the state in the URL."""

    url: str
    state: str
    browser: str
    pending: Pending


@dataclass(frozen=True, slots=True)
class Identity:
    id: UUID
    user_id: UUID
    issuer: str
    subject: str
    org_id: UUID | None
    email: str
    created_at: datetime
    last_used_at: datetime


@dataclass(frozen=True, slots=True)
class SsoConnection:
    """An org's own sign-in. `role_map` says which value of `role_claim` stands for which role."""

    org_id: UUID
    issuer: str
    client_id: str
    client_secret_wrapped: bytes
    role_claim: str | None
    role_map: Mapping[str, str]
    default_role: str | None
    created_at: datetime
    updated_at: datetime

    def role_of(self, claims: Mapping[str, Any]) -> Role:
        """Return the highest role that the claim's values stand for, else the default one; raise `NoRole` for none."""
        given = claims.get(self.role_claim) if self.role_claim else None
        values = given if isinstance(given, list) else [given]
        mapped = {self.role_map[value] for value in values if isinstance(value, str) and value in self.role_map}
        for role in SSO_ROLES:
            if role in mapped:
                return role
        if self.default_role is None:
            raise NoRole("Your org's sign-in gives you no role here; ask who runs it.")
        return Role(self.default_role)


def stand_in_address(issuer: str, subject: str, org_id: UUID) -> str:
    """Return what stands for the address of a person whom only an org's own sign-in knows.

    No address at all: nobody can register it, or be sent a letter there. What the issuer claims is kept beside it, so
    that the claim takes nothing from whoever really has that address.
    """
    digest = hashlib.sha256(f"{issuer}\n{subject}".encode()).hexdigest()[:32]
    return f"{digest}.sso.{ids.show('org', org_id)}@invalid"


def readable_name(given: object, email: str | None) -> str:
    """Return a name of 1 to 100 printable characters: the one given, else the address up to its @."""
    for text in (given, (email or "").partition("@")[0]):
        if isinstance(text, str):
            shown = "".join(each for each in unicodedata.normalize("NFC", text) if each.isprintable()).strip()
            if shown:
                return shown[:_LONGEST_NAME].strip()
    return "Somebody"


def check_roles(role_map: Mapping[str, str], default_role: str | None) -> None:
    """Raise `InvalidRequest` for a role that an org's sign-in can't give."""
    if unknown := sorted({*role_map.values(), default_role or Role.VIEWER} - set(SSO_ROLES)):
        raise InvalidRequest(f"Roles are admin, member and viewer; not {', '.join(unknown)}.", param="role_map")
