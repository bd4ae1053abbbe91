"""An org is a tenant: people belong to it in one role each, and everything else belongs to it alone."""

import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Self
from uuid import UUID

from shared.identity.policy import Role, check_may_give
from shared.kernel.addresses import domain_of, fold_domain
from shared.kernel.caller import Caller
from shared.kernel.errors import Conflict, InvalidRequest, Kind, NotFound, RateLimited, RunyardError

MOST_ORGS_OWNED = 10
INVITATION_LIFETIME = timedelta(days=7)
# Letters go to whomever somebody names, so an org may cause no flood of them.
INVITATIONS_A_DAY = 100
RESEND_AFTER = timedelta(minutes=5)

_SLUG_FORMAT = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,46}[a-z0-9])?")


class SlugTaken(Conflict):
    """Another org has this slug."""

    code = "slug_taken"


class AlreadyMember(Conflict):
    """This person is a member of the org."""

    code = "already_member"


class LastOwner(Conflict):
    """An org keeps at least one owner: make somebody else an owner first."""

    code = "last_owner"


class AlreadyInvited(Conflict):
    """There is an open invitation for this address: send it again, or revoke it first."""

    code = "already_invited"


class InvitationClosed(Conflict):
    """The invitation was accepted or revoked; invite again."""

    code = "invitation_closed"


class InvitationExpired(Conflict):
    """Invitations are good for seven days: ask for a new one."""

    code = "invitation_expired"


class InvitationForAnother(RunyardError):
    """The invitation is for another address than the one of whoever is signed in."""

    kind = Kind.FORBIDDEN
    code = "invitation_for_another"


class EmailDomainNotAllowed(RunyardError):
    """The org takes only addresses of the domains in its setting `allowed_email_domains`."""

    kind = Kind.FORBIDDEN
    code = "email_domain_not_allowed"


class TooManyInvitations(RateLimited):
    """An org sends at most 100 invitations a day, and each again after five minutes at the earliest."""

    code = "too_many_invitations"


class TooManyOrgs(RunyardError):
    """A person owns at most ten orgs; leave one, or ask its other members to go on without you."""

    kind = Kind.FORBIDDEN
    code = "too_many_orgs"


class TeamNameTaken(Conflict):
    """The org has another team of this name."""

    code = "team_name_taken"


@dataclass(frozen=True, slots=True)
class OrgSettings:
    """What an org's admins decide. No domains: an address of any domain can be invited."""

    allowed_email_domains: tuple[str, ...] = ()

    def checked(self) -> Self:
        """Return the settings in their one spelling; raise `InvalidRequest` for what is no domain."""
        domains = {fold_domain(each, param="allowed_email_domains") for each in self.allowed_email_domains}
        return type(self)(tuple(sorted(domains)))

    def check_admits(self, email: str) -> None:
        """Raise `EmailDomainNotAllowed` for an address (folded) that the org does not take."""
        if self.allowed_email_domains and domain_of(email) not in self.allowed_email_domains:
            raise EmailDomainNotAllowed("This org takes no addresses of this domain.", param="email")

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"allowed_email_domains": list(self.allowed_email_domains)}

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> Self:
        return cls(tuple(stored.get("allowed_email_domains", ())))


@dataclass(frozen=True, slots=True)
class Org:
    id: UUID
    name: str
    slug: str
    plan: str
    settings: OrgSettings
    metadata: dict[str, str]
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class Member:
    """A person in an org."""

    user_id: UUID
    name: str
    email: str
    role: Role
    has_second_factor: bool
    created_at: datetime
    updated_at: datetime


class InvitationStatus(StrEnum):
    OPEN = "open"
    ACCEPTED = "accepted"
    REVOKED = "revoked"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class Invitation:
    """A role offered to whoever reads the mail of an address. `invited_by` is the public id of who offers it."""

    id: UUID
    email: str
    role: Role
    invited_by: str
    created_at: datetime
    sent_at: datetime | None
    accepted_at: datetime | None
    revoked_at: datetime | None
    expires_at: datetime

    def status(self, now: datetime) -> InvitationStatus:
        if self.accepted_at is not None:
            return InvitationStatus.ACCEPTED
        # One that expired is put away when its address is invited again: it was never revoked by anybody.
        if self.revoked_at is not None and self.revoked_at < self.expires_at:
            return InvitationStatus.REVOKED
        return InvitationStatus.OPEN if now < self.expires_at else InvitationStatus.EXPIRED

    def check_acceptable_by(self, email: str, now: datetime) -> None:
        """Raise unless the person with this verified address (folded) can accept it now."""
        if self.email != email:
            raise InvitationForAnother("This invitation is for another address than yours.")
        match self.status(now):
            case InvitationStatus.EXPIRED:
                raise InvitationExpired("This invitation has expired; ask for a new one.")
            case InvitationStatus.ACCEPTED | InvitationStatus.REVOKED as closed:
                raise InvitationClosed(f"This invitation was {closed}.")
            case InvitationStatus.OPEN:
                pass

    def check_not_accepted(self) -> None:
        """Raise `InvitationClosed` once somebody has joined by it."""
        if self.accepted_at is not None:
            raise InvitationClosed("This invitation was accepted; remove the member instead.")

    def check_resendable(self, now: datetime) -> None:
        """Raise `InvitationClosed`, or `TooManyInvitations` while the last letter is fresh; an expired one is good."""
        if self.accepted_at is not None or self.revoked_at is not None:
            raise InvitationClosed(f"This invitation was {self.status(now)}; invite again.")
        if self.sent_at is not None and now < self.sent_at + RESEND_AFTER:
            left = self.sent_at + RESEND_AFTER - now
            raise TooManyInvitations("This letter has just been sent.", retry_after_s=int(left.total_seconds()) + 1)


@dataclass(frozen=True, slots=True)
class Team:
    """Some of an org's members, with whom things can be shared."""

    id: UUID
    name: str
    metadata: dict[str, str]
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class TeamMember:
    user_id: UUID
    name: str
    email: str
    created_at: datetime


def slug_of(name: str, wanted: str | None, fallback: str) -> str:
    """Return the slug asked for, or one made of the name; raise `InvalidRequest` when it isn't a slug."""
    if wanted is not None:
        if _SLUG_FORMAT.fullmatch(wanted) is None:
            raise InvalidRequest("slug: 1 to 48 of a-z, 0-9 and -, not at an end.", param="slug")
        return wanted
    made = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:32].strip("-")
    return f"{made}-{fallback}" if made else fallback


def check_may_own_another(roles: Iterable[str]) -> None:
    """Raise `TooManyOrgs` for a person who has these roles: every org brings quotas and rates of its own."""
    if sum(role == Role.OWNER for role in roles) >= MOST_ORGS_OWNED:
        raise TooManyOrgs(f"A person owns at most {MOST_ORGS_OWNED} orgs.")


def takes_seat(role: Role) -> bool:
    """Tell whether a member of this role counts on the quota `members`: viewers do not."""
    return role is not Role.VIEWER


def check_may_change(actor: Caller, *roles: Role) -> None:
    """Raise `Forbidden` unless the actor may give and take all of these roles; the platform itself may."""
    for role in roles if actor.role != "system" else ():
        check_may_give(role, giver_role=actor.role, giver_scopes=actor.scopes)


def check_an_owner_remains(owners: frozenset[UUID], *, without: UUID) -> None:
    """Raise `LastOwner` if nobody of the owners would be left."""
    if owners == {without}:
        raise LastOwner("This is the org's last owner; make somebody else an owner first.")


def unknown_invitation() -> NotFound:
    return NotFound("This invitation is unknown, or a newer letter has replaced it.", param="token")
