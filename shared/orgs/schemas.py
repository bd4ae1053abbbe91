"""Public JSON of orgs, their members, invitations and teams."""

from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import Field

from shared.identity.policy import Role
from shared.identity.schemas import ApiKeyOut
from shared.kernel import clock
from shared.kernel.addresses import reachable
from shared.kernel.caller import Caller
from shared.kernel.fields import Input, InvitationId, Metadata, OrgId, Output, TeamId, UserId
from shared.orgs.model import Invitation, InvitationStatus, Member, Org, OrgSettings, Team, TeamMember

Name = Annotated[str, Field(min_length=1, max_length=100, examples=["Acme"])]
TeamName = Annotated[str, Field(min_length=1, max_length=100, examples=["Research"])]
Slug = Annotated[str, Field(max_length=48, description="1 to 48 of a-z, 0-9 and -.", examples=["acme"])]
Email = Annotated[str, Field(max_length=254, examples=["grace@example.com"])]
ROLES = "A member sees and changes what is their own; a viewer reads everything and changes nothing, and takes no seat."
SHOWN_EMAIL = Field(description="Null for somebody whom only the org's own sign-in vouches for.")
GivenRole = Annotated[Role, Field(description=ROLES, examples=["viewer"])]


class CreateOrg(Input):
    name: Name
    slug: Annotated[str | None, Field(description="Made of the name by default.", examples=["acme"])] = None
    plan: Annotated[Literal["free"], Field(description="Its subscription moves it to others.")] = "free"
    metadata: Metadata = {}


class UpdateOrg(Input):
    """What is left out stays as it is."""

    name: Name | None = None
    slug: Slug | None = None
    metadata: Metadata | None = None


class Settings(Input):
    """The org's settings as a whole: what is left out takes its default."""

    allowed_email_domains: Annotated[
        list[Annotated[str, Field(max_length=253)]],
        Field(
            max_length=50,
            description="Only addresses of these very domains can be invited and accept; empty: all.",
            examples=[["example.com"]],
        ),
    ] = []

    def to_model(self) -> OrgSettings:
        return OrgSettings(tuple(self.allowed_email_domains))


class SettingsOut(Output):
    object: Literal["org_settings"] = "org_settings"
    allowed_email_domains: list[str]

    @classmethod
    def of(cls, settings: OrgSettings) -> Self:
        return cls(**settings.to_json())


class OrgOut(Output):
    id: OrgId
    object: Literal["org"] = "org"
    name: str
    slug: str
    plan: str
    settings: SettingsOut
    metadata: Metadata
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, org: Org) -> Self:
        return cls(
            id=org.id,
            name=org.name,
            slug=org.slug,
            plan=org.plan,
            settings=SettingsOut.of(org.settings),
            metadata=org.metadata,
            created_at=org.created_at,
            updated_at=org.updated_at,
        )


class NewOrgOut(Output):
    """A tenant just created. `api_key` is there when the operator made it: the key to go on with."""

    object: Literal["new_org"] = "new_org"
    org: OrgOut
    api_key: ApiKeyOut | None


class OrgOfCallerOut(Output):
    """An org the caller belongs to. A person gets a token for it from `POST /v1/auth/refresh` with its `org_id`."""

    object: Literal["org_of_caller"] = "org_of_caller"
    org: OrgOut
    role: str = Field(description="The caller's role there; `api` for an API key.", examples=["owner"])

    @classmethod
    def of(cls, org: Org, role: str) -> Self:
        return cls(org=OrgOut.of(org), role=role)


class ChangeRole(Input):
    role: GivenRole


class MemberOut(Output):
    user_id: UserId
    object: Literal["member"] = "member"
    name: str
    email: str | None = SHOWN_EMAIL
    role: Role
    has_second_factor: bool | None = Field(description="Told to those who may change members.")
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, member: Member, caller: Caller) -> Self:
        return cls(
            user_id=member.user_id,
            name=member.name,
            email=reachable(member.email),
            role=member.role,
            has_second_factor=member.has_second_factor if "members:write" in caller.scopes else None,
            created_at=member.created_at,
            updated_at=member.updated_at,
        )


class Invite(Input):
    email: Email
    role: GivenRole


class AcceptInvitation(Input):
    token: Annotated[
        str, Field(min_length=1, max_length=100, description="From the link in the letter.", examples=["x" * 43])
    ]


class InvitationOut(Output):
    """An offer to join. Whether its address has an account is not told to anybody."""

    id: InvitationId
    object: Literal["invitation"] = "invitation"
    email: str
    role: Role
    status: InvitationStatus
    invited_by: str = Field(examples=["user_01h455vb4pex5vsknk084sn02q"])
    created_at: datetime
    sent_at: datetime | None = Field(description="When the letter left; null while it is on its way.")
    accepted_at: datetime | None
    revoked_at: datetime | None
    expires_at: datetime

    @classmethod
    def of(cls, invitation: Invitation) -> Self:
        return cls(
            id=invitation.id,
            email=invitation.email,
            role=invitation.role,
            status=invitation.status(clock.now()),
            invited_by=invitation.invited_by,
            created_at=invitation.created_at,
            sent_at=invitation.sent_at,
            accepted_at=invitation.accepted_at,
            revoked_at=invitation.revoked_at,
            expires_at=invitation.expires_at,
        )


class CreateTeam(Input):
    name: TeamName
    metadata: Metadata = {}


class UpdateTeam(Input):
    """What is left out stays as it is."""

    name: TeamName | None = None
    metadata: Metadata | None = None


class TeamOut(Output):
    id: TeamId
    object: Literal["team"] = "team"
    name: str
    metadata: Metadata
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, team: Team) -> Self:
        return cls(
            id=team.id,
            name=team.name,
            metadata=team.metadata,
            created_at=team.created_at,
            updated_at=team.updated_at,
        )


class TeamMemberOut(Output):
    user_id: UserId
    object: Literal["team_member"] = "team_member"
    name: str
    email: str | None = SHOWN_EMAIL
    created_at: datetime = Field(description="When they joined the team.")

    @classmethod
    def of(cls, member: TeamMember) -> Self:
        return cls(
            user_id=member.user_id, name=member.name, email=reachable(member.email), created_at=member.created_at
        )
