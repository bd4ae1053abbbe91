"""HTTP API of an org's members and invitations."""

from typing import Annotated

from fastapi import Depends

from shared.kernel import db, ids
from shared.kernel.caller import Caller
from shared.kernel.fields import InvitationId, Page, UserId
from shared.kernel.http import lambda_handler, once, require, require_in_org
from shared.kernel.idempotency import Once
from shared.kernel.pagination import Slice, cut, slice_of
from shared.kernel.routing import Router
from shared.mail import service as mail
from shared.orgs import service
from shared.orgs.schemas import AcceptInvitation, ChangeRole, InvitationOut, Invite, MemberOut, OrgOfCallerOut

router = Router(prefix="/v1", tags=["members"])
Reader = Annotated[Caller, Depends(require_in_org("members:read"))]
Writer = Annotated[Caller, Depends(require_in_org("members:write"))]
# A session of an org's own sign-in counts in that org alone, and so lacks this scope.
Joiner = Annotated[Caller, Depends(require("account:write"))]
MEMBERS, INVITATIONS = "/orgs/{org_id}/members", "/orgs/{org_id}/invitations"


@router.get(MEMBERS)
def list_members(asked: Annotated[Slice, slice_of("user")], caller: Reader) -> Page[MemberOut]:
    with db.tenant(caller) as tx:
        found, more = cut(service.list_members(tx, asked), asked)
    cursor = ids.show("user", found[-1].user_id) if more else None
    return Page(data=[MemberOut.of(each, caller) for each in found], has_more=more, next_cursor=cursor)


@router.get(MEMBERS + "/{user_id}")
def get_member(user_id: UserId, caller: Reader) -> MemberOut:
    with db.tenant(caller) as tx:
        return MemberOut.of(service.get_member(tx, user_id), caller)


@router.patch(MEMBERS + "/{user_id}")
def change_role(user_id: UserId, body: ChangeRole, caller: Writer) -> MemberOut:
    """Give a member another role, at most one's own."""
    with db.tenant(caller) as tx:
        return MemberOut.of(service.change_role(tx, caller, user_id=user_id, role=body.role), caller)


@router.delete(MEMBERS + "/{user_id}", status_code=204)
def remove_member(user_id: UserId, caller: Reader) -> None:
    """Remove a member, which takes `members:write`; or leave, which everybody may."""
    with db.tenant(caller) as tx:
        service.remove_member(tx, caller, user_id=user_id)


@router.post(INVITATIONS, status_code=201)
def invite(body: Invite, caller: Writer, once: Annotated[Once, Depends(once)]) -> InvitationOut:
    """Invite an address, whether or not it has an account. The letter leaves within the minute."""

    def create() -> InvitationOut:
        return InvitationOut.of(service.invite(tx, caller, email=body.email, role=body.role))

    with db.tenant(caller) as tx:
        invitation = once(tx, create)
    mail.ask_for("invitation", owner=caller.org_id, letter_id=invitation.id)
    return invitation


@router.get(INVITATIONS)
def list_invitations(asked: Annotated[Slice, slice_of("inv")], caller: Reader) -> Page[InvitationOut]:
    with db.tenant(caller) as tx:
        found, more = cut(service.list_invitations(tx, asked), asked)
    cursor = ids.show("inv", found[-1].id) if more else None
    return Page(data=[InvitationOut.of(each) for each in found], has_more=more, next_cursor=cursor)


@router.get(INVITATIONS + "/{invitation_id}")
def get_invitation(invitation_id: InvitationId, caller: Reader) -> InvitationOut:
    with db.tenant(caller) as tx:
        return InvitationOut.of(service.get_invitation(tx, invitation_id))


@router.post(INVITATIONS + "/{invitation_id}/resend")
def resend_invitation(
    invitation_id: InvitationId, caller: Writer, once: Annotated[Once, Depends(once)]
) -> InvitationOut:
    """Send the letter again, with a new link that replaces the one before."""

    def resend() -> InvitationOut:
        return InvitationOut.of(service.resend_invitation(tx, caller, invitation_id=invitation_id))

    with db.tenant(caller) as tx:
        invitation = once(tx, resend)
    mail.ask_for("invitation", owner=caller.org_id, letter_id=invitation_id)
    return invitation


@router.delete(INVITATIONS + "/{invitation_id}")
def revoke_invitation(invitation_id: InvitationId, caller: Writer) -> InvitationOut:
    with db.tenant(caller) as tx:
        return InvitationOut.of(service.revoke_invitation(tx, caller, invitation_id=invitation_id))


@router.post("/invitations/accept")
def accept_invitation(body: AcceptInvitation, caller: Joiner, once: Annotated[Once, Depends(once)]) -> OrgOfCallerOut:
    """Join the org that invited the address of whoever is signed in."""

    def accept() -> OrgOfCallerOut:
        return OrgOfCallerOut.of(*service.accept_invitation(tx, caller, token=body.token))

    with db.tenant(caller) as tx:
        return once(tx, accept)


handler = lambda_handler(router)
