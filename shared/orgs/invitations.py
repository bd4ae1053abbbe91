"""Use cases of invitations: offer a role to an address, send the letter, accept."""

import hashlib
import secrets
from dataclasses import replace
from datetime import timedelta
from uuid import UUID

from shared.audit import service as audit
from shared.identity.policy import Role
from shared.kernel import clock, db, ids, settings
from shared.kernel.addresses import fold_email, reachable
from shared.kernel.caller import Caller
from shared.kernel.db import Tx
from shared.kernel.errors import Forbidden, NotFound
from shared.kernel.pagination import Slice
from shared.mail import service as mail
from shared.orgs import invitations_store as store
from shared.orgs import members_store
from shared.orgs import store as orgs_store
from shared.orgs.members import add_member, check_seat
from shared.orgs.model import (
    INVITATION_LIFETIME,
    INVITATIONS_A_DAY,
    AlreadyMember,
    Invitation,
    Org,
    TooManyInvitations,
    check_may_change,
    unknown_invitation,
)

_LETTER = """\
{inviter} invites you to join the org "{org}" as {role}.

Accept by following this link and signing in, or registering, with this very address:

{link}

The link is good until {expires}. If you don't know what this is about, ignore this letter: nothing happens then.
"""


def invite(tx: Tx, caller: Caller, *, email: str, role: Role) -> Invitation:
    """Offer a role to an address. The letter leaves once `tx` has committed and `mail.ask_for` was called.

    Does the same whether or not the address has an account. Raises `Forbidden` for a role beyond the caller's own,
    `EmailDomainNotAllowed`, `AlreadyMember`, `AlreadyInvited`, `TooManyInvitations`, and `QuotaExceeded` when no
    seat is free; an invitation does not hold one.
    """
    address = fold_email(email)
    check_may_change(caller, role)
    # Held, so that parallel invitations are counted one after the other.
    _org(tx, caller.org_id, lock=True).settings.check_admits(address)
    if members_store.find_by_email(tx, address) is not None:
        raise AlreadyMember("This address belongs to a member of the org.", param="email")
    if store.count_of_a_day(tx) >= INVITATIONS_A_DAY:
        raise TooManyInvitations(f"An org invites {INVITATIONS_A_DAY} addresses a day at most.", retry_after_s=3600)
    check_seat(tx, caller.org_id, role)
    invitation = store.insert(
        tx,
        invitation_id=ids.new(),
        email=address,
        role=role,
        invited_by=caller.actor_id,
        expires_at=clock.now() + INVITATION_LIFETIME,
    )
    _record(tx, caller, "invitation.create", invitation)
    return invitation


def list_invitations(tx: Tx, asked: Slice) -> list[Invitation]:
    """Return up to `limit + 1` invitations, newest first, closed ones included."""
    return store.list_invitations(tx, asked)


def get_invitation(tx: Tx, invitation_id: UUID) -> Invitation:
    return _found(store.find(tx, invitation_id), invitation_id)


def resend_invitation(tx: Tx, caller: Caller, *, invitation_id: UUID) -> Invitation:
    """Have the letter sent again with a new link, good for a new seven days; the link before is dead at once."""
    before = _found(store.find(tx, invitation_id, lock=True), invitation_id)
    check_may_change(caller, before.role)
    before.check_resendable(clock.now())
    after = store.send_again(tx, invitation_id, expires_at=clock.now() + INVITATION_LIFETIME)
    _record(tx, caller, "invitation.resend", after)
    return after


def revoke_invitation(tx: Tx, caller: Caller, *, invitation_id: UUID) -> Invitation:
    """Take an invitation back for good; again changes nothing. Raises `InvitationClosed` once it was accepted."""
    before = _found(store.find(tx, invitation_id, lock=True), invitation_id)
    check_may_change(caller, before.role)
    if before.revoked_at is not None:
        return before
    before.check_not_accepted()
    after = store.revoke(tx, invitation_id)
    _record(tx, caller, "invitation.revoke", after)
    return after


def accept_invitation(tx: Tx, caller: Caller, *, token: str) -> tuple[Org, Role]:
    """Make the caller a member of the org that invited their address. `tx` is the caller's, in any org of theirs.

    Raises `NotFound`, `InvitationForAnother`, `InvitationClosed`, `InvitationExpired`, `AlreadyMember`,
    `EmailDomainNotAllowed`, and `QuotaExceeded` when no seat is free any more.
    """
    if caller.person_id is None:
        raise Forbidden("Only a person can accept an invitation.")
    named = store.by_secret(tx, _sha256(token))
    if named is None:
        raise unknown_invitation()
    address = members_store.own_address(tx, caller.person_id)
    invitation_id, org_id = named
    joining = replace(caller, org_id=org_id)
    # The secret of the letter is what opens the inviting org to this one step.
    with db.acting_for(tx, org_id):
        invitation = store.find(tx, invitation_id, lock=True)
        if invitation is None or address is None:
            raise unknown_invitation()
        invitation.check_acceptable_by(address, clock.now())
        org = _org(tx, org_id)
        org.settings.check_admits(address)
        add_member(tx, joining, user_id=caller.person_id, role=invitation.role)
        store.accept(tx, invitation_id)
        _record(tx, joining, "invitation.accept", invitation)
    return org, invitation.role


def send_invitation(org_id: UUID, invitation_id: UUID) -> None:
    """Send the letter of an open invitation, with a secret made here; one already sent is not sent again.

    The row is held while SES is called: of two consumers one sends, and a letter that did not leave is asked for again.
    """
    with db.tenant(Caller.system(org_id)) as tx:
        invitation = store.lock_unsent(tx, invitation_id)
        if invitation is None:
            return
        token = secrets.token_urlsafe(32)
        store.sent(tx, invitation_id, sha256=_sha256(token))
        org = _one_line(_org(tx, org_id).name)
        text = _LETTER.format(
            inviter=_inviter(tx, invitation, org),
            org=org,
            role=invitation.role.value,
            link=f"{settings.public_url()}/account#invitation={token}",
            expires=f"{invitation.expires_at:%Y-%m-%d %H:%M} UTC",
        )
        mail.send(to=invitation.email, subject=f"Invitation to {org}", text=text)


def ask_for_unsent_invitations(older_than: timedelta) -> int:
    """Ask again for letters that should have left long ago; return how many."""
    with db.anonymous() as tx:
        found = store.unsent(tx, older_than_s=older_than.total_seconds())
    for invitation_id, org_id in found:
        mail.ask_for("invitation", owner=org_id, letter_id=invitation_id)
    return len(found)


def _inviter(tx: Tx, invitation: Invitation, org: str) -> str:
    """Name the person who invites, as far as one did and is still there."""
    if invitation.invited_by.startswith("user_"):
        member = members_store.find(tx, ids.read("user", invitation.invited_by))
        if member is not None:
            address = reachable(member.email)
            return _one_line(member.name) + (f" ({address})" if address else "")
    return f"An administrator of {org}"


def _one_line(text: str) -> str:
    """Names come from people: in a letter they take one line and hold no control characters."""
    return "".join(each if each.isprintable() else " " for each in " ".join(text.split()))


def _sha256(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


def _org(tx: Tx, org_id: UUID, *, lock: bool = False) -> Org:
    org = orgs_store.find_org(tx, org_id, lock=lock)
    if org is None:
        raise NotFound.of("org", ids.show("org", org_id))
    return org


def _found(invitation: Invitation | None, invitation_id: UUID) -> Invitation:
    if invitation is None:
        raise NotFound.of("invitation", ids.show("inv", invitation_id))
    return invitation


def _record(tx: Tx, caller: Caller, action: str, invitation: Invitation) -> None:
    audit.record(
        tx,
        caller,
        action=action,
        resource_type="invitation",
        resource_id=ids.show("inv", invitation.id),
        new={"email": invitation.email, "role": invitation.role.value},
    )
