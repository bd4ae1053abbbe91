"""From an issuer's word to a person and a session: whom an identity stands for, and who is new."""

from dataclasses import dataclass
from uuid import UUID

from shared.audit import service as audit
from shared.identity.policy import Role
from shared.kernel import db, ids
from shared.kernel.addresses import fold_email
from shared.kernel.caller import Caller
from shared.kernel.db import Tx
from shared.kernel.errors import InvalidRequest, SessionEnded
from shared.kernel.pagination import Slice
from shared.logins import store
from shared.logins.model import (
    SSO,
    Claims,
    EmailNotVerified,
    IdentityTaken,
    LoginStateInvalid,
    NotAMember,
    Pending,
    stand_in_address,
)
from shared.orgs import service as orgs
from shared.people import service as people
from shared.people.model import OpenedSession, Visitor


@dataclass(frozen=True, slots=True)
class Entered:
    """A session just opened; with the org that was made for a new person."""

    opened: OpenedSession
    new_org: UUID | None


def enter(tx: Tx, pending: Pending, claims: Claims, visitor: Visitor) -> Entered:
    """Find, link or create the person whom these claims stand for, and open a session. `tx` is anonymous.

    Raises `EmailNotVerified`, `IdentityTaken`, `NotAMember`, `NoRole`, `QuotaExceeded` and what else joining may raise.
    """
    # Two callbacks of somebody new at once make one person.
    store.lock(tx, f"identity {claims.issuer} {claims.subject} {pending.org_id}")
    known = store.user_by_identity(tx, issuer=claims.issuer, subject=claims.subject, org_id=pending.org_id)
    if pending.org_id is not None:
        user_id = _member(tx, pending.org_id, known, claims, visitor)
        new_org = None
    else:
        user_id, new_org = _person(tx, pending, known, claims, visitor)
    opened = people.open_session(
        tx,
        user_id=user_id,
        org_id=pending.org_id,
        method=pending.provider if pending.org_id is None else SSO,
        ip=visitor.ip,
        user_agent=visitor.user_agent,
        request_id=visitor.request_id,
        org_locked=pending.org_id is not None,
    )
    actor = _acting(user_id, opened.session.org_id, visitor)
    _remember(tx, actor, user_id, claims, org_id=pending.org_id, known=known is not None)
    return Entered(opened, new_org)


def _person(tx: Tx, pending: Pending, known: UUID | None, claims: Claims, visitor: Visitor) -> tuple[UUID, UUID | None]:
    """Become the person, and return them with the org that was made for them, if they are new."""
    if pending.link_user_id is not None:
        return _linked(tx, pending, known, claims), None
    if known is None:
        email = _verified(claims)
        known = people.find_by_email(tx, email)
        if known is None:
            return _created(tx, email, claims, visitor)
    db.become(tx, known)
    return known, None


def _linked(tx: Tx, pending: Pending, known: UUID | None, claims: Claims) -> UUID:
    user_id, session_id = pending.link_user_id, pending.link_session_id
    if user_id is None or session_id is None:
        raise LoginStateInvalid("Nobody is there to add this identity to.")
    if known is None:
        _verified(claims)
    elif known != user_id:
        raise IdentityTaken("This identity signs in another person.")
    db.become(tx, user_id)
    # Sessions are listed newest first: the next one after a moment later than this one's is itself, if it is open.
    asked = Slice(limit=1, before=UUID(int=session_id.int + 1))
    if session_id not in [session.id for session in people.list_sessions(tx, asked)]:
        raise SessionEnded("The session that began this has ended; sign in again.")
    return user_id


def _created(tx: Tx, email: str, claims: Claims, visitor: Visitor) -> tuple[UUID, UUID | None]:
    user_id = ids.new()
    people.create_person(
        tx,
        user_id=user_id,
        email=email,
        name=claims.name,
        password_hash=None,
        request_id=visitor.request_id,
        ip=visitor.ip,
    )
    return user_id, next((org.id for org, _ in orgs.orgs_of_person(tx)), None)


def _member(tx: Tx, org_id: UUID, known: UUID | None, claims: Claims, visitor: Visitor) -> UUID:
    """Become the member of the org whom its issuer names; somebody whom nobody knows becomes one."""
    with db.acting_for(tx, org_id):
        connection = store.find_connection(tx)
        if connection is None or connection.issuer != claims.issuer:
            raise LoginStateInvalid("The org's sign-in was changed meanwhile; begin again.")
        role = connection.role_of(claims.everything)
        email = _claimed(claims)
        if known is None and claims.email_verified is False:
            raise EmailNotVerified("Your org's sign-in says that your e-mail address is not confirmed.")
        user_id = known or (people.find_by_email(tx, email) if email else None)
        if user_id is None:
            user_id = ids.new()
            address = stand_in_address(claims.issuer, claims.subject, org_id)
            people.create_guest(
                tx,
                user_id=user_id,
                email=address,
                name=claims.name,
                org_id=org_id,
                request_id=visitor.request_id,
                ip=visitor.ip,
            )
            orgs.add_member(tx, _acting(user_id, org_id, visitor), user_id=user_id, role=role)
            return user_id
        present = orgs.role_of(tx, user_id)
        if present is None:
            raise NotAMember("You are no member of this org; accept an invitation first.")
        # Ownership is the owners' business: an issuer neither gives nor takes it.
        if present is not Role.OWNER:
            orgs.change_role(tx, _acting(user_id, org_id, visitor), user_id=user_id, role=role)
        db.become(tx, user_id)
        return user_id


def _remember(tx: Tx, actor: Caller, user_id: UUID, claims: Claims, *, org_id: UUID | None, known: bool) -> None:
    email = _claimed(claims)
    if known:
        store.use_identity(tx, issuer=claims.issuer, subject=claims.subject, org_id=org_id, email=email)
        return
    identity_id = ids.new()
    store.insert_identity(
        tx,
        identity_id=identity_id,
        user_id=user_id,
        issuer=claims.issuer,
        subject=claims.subject,
        org_id=org_id,
        email=email or "",
    )
    with db.acting_for(tx, actor.org_id):
        audit.record(
            tx,
            actor,
            action="identity.create",
            resource_type="identity",
            resource_id=ids.show("idn", identity_id),
            new={"issuer": claims.issuer, "email": email},
        )


def _verified(claims: Claims) -> str:
    if claims.email is None or claims.email_verified is not True:
        raise EmailNotVerified("The provider does not say that your e-mail address is confirmed; confirm it there.")
    return fold_email(claims.email)


def _claimed(claims: Claims) -> str | None:
    try:
        return None if claims.email is None else fold_email(claims.email)
    except InvalidRequest:
        return None


def _acting(user_id: UUID, org_id: UUID, visitor: Visitor) -> Caller:
    """Return the person as who acts, with the platform's leave to join and to change: the org's owner set it up so."""
    return Caller(
        org_id=org_id,
        actor_id=ids.show("user", user_id),
        role="system",
        scopes=frozenset(),
        plan="",
        request_id=visitor.request_id,
        person_id=user_id,
        ip=visitor.ip,
    )
