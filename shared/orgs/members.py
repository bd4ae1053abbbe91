"""Use cases of members: add, list, change roles, remove."""

from uuid import UUID

from shared.audit import service as audit
from shared.identity.policy import Role
from shared.kernel import db, ids
from shared.kernel.caller import Caller
from shared.kernel.db import Tx
from shared.kernel.errors import NotFound
from shared.kernel.pagination import Slice
from shared.orgs import members_store as store
from shared.orgs.model import Member, check_an_owner_remains, check_may_change, takes_seat
from shared.quotas import service as quotas
from shared.quotas.model import Look
from shared.quotas.plans import Resource


def add_member(tx: Tx, actor: Caller, *, user_id: UUID, role: Role) -> None:
    """Make a person a member. `tx` acts for `actor.org_id`; whether they may join has been decided.

    Raises `AlreadyMember`, and `QuotaExceeded` when no seat is free.
    """
    store.insert(tx, user_id=user_id, role=role)
    seat(tx, actor.org_id, user_id, role)
    _record(tx, actor, "member.add", user_id, old=None, new=role)


def role_of(tx: Tx, user_id: UUID) -> Role | None:
    """Return the person's role in the org that `tx` acts for; None: not a member."""
    return store.role_of(tx, user_id)


def list_members(tx: Tx, asked: Slice) -> list[Member]:
    """Return up to `limit + 1` members, those who registered last first."""
    return store.list_members(tx, asked)


def get_member(tx: Tx, user_id: UUID) -> Member:
    member = store.find(tx, user_id)
    if member is None:
        raise _missing(user_id)
    return member


def change_role(tx: Tx, actor: Caller, *, user_id: UUID, role: Role) -> Member:
    """Give a member another role; the same one again changes nothing.

    Raises `Forbidden` for a role beyond the actor's own, `LastOwner`, and `QuotaExceeded` when no seat is free.
    `Caller.system` may give and take every role: whoever uses it has rules of their own.
    """
    before, owners = store.lock(tx, user_id)
    if before is None:
        raise _missing(user_id)
    check_may_change(actor, before, role)
    if before is not role:
        if role is not Role.OWNER:
            check_an_owner_remains(owners, without=user_id)
        store.set_role(tx, user_id=user_id, role=role)
        if takes_seat(role) and not takes_seat(before):
            seat(tx, actor.org_id, user_id, role)
        elif takes_seat(before) and not takes_seat(role):
            _unseat(tx, actor.org_id, user_id)
        _record(tx, actor, "member.update", user_id, old=before, new=role)
    return get_member(tx, user_id)


def remove_member(tx: Tx, actor: Caller, *, user_id: UUID) -> None:
    """Remove a member, who thereby leaves its teams and loses what was shared with them; anybody may leave.

    Their access ends once the authorizer's 5 s have passed: it looks up the membership each time. Raises `Forbidden`
    for a role beyond the actor's own, and `LastOwner`. Last in its transaction, which then sees that person's rows.
    """
    if user_id != actor.person_id:
        actor.require("members:write")
    before, owners = store.lock(tx, user_id)
    if before is None:
        raise _missing(user_id)
    if user_id != actor.person_id:
        check_may_change(actor, before)
    check_an_owner_remains(owners, without=user_id)
    store.delete(tx, user_id)
    _unseat(tx, actor.org_id, user_id)
    _record(tx, actor, "member.remove", user_id, old=before, new=None)
    db.become(tx, user_id)
    store.end_locked_sessions(tx, user_id=user_id, org_id=actor.org_id)


def seat(tx: Tx, org_id: UUID, user_id: UUID, role: Role) -> None:
    """Take the seat that comes with a role, if one does; raise `QuotaExceeded` when none is free."""
    if takes_seat(role):
        quotas.allocate(tx, org_id, Resource.MEMBERS, holder=ids.show("user", user_id))


def check_seat(tx: Tx, org_id: UUID, role: Role) -> None:
    """Raise `QuotaExceeded` when the role takes a seat and none is free now; takes none."""
    if takes_seat(role):
        quotas.check(tx, org_id, Resource.MEMBERS)


def holders(tx: Tx, look: Look) -> list[tuple[UUID, int]]:
    """Return who holds the quota `members` of the org that `tx` acts for, in order of their ids."""
    return [(user_id, 1) for user_id in store.seated(tx, look)]


def _unseat(tx: Tx, org_id: UUID, user_id: UUID) -> None:
    quotas.release(tx, org_id, Resource.MEMBERS, holder=ids.show("user", user_id))


def _missing(user_id: UUID) -> NotFound:
    return NotFound.of("member", ids.show("user", user_id))


def _record(tx: Tx, actor: Caller, action: str, user_id: UUID, *, old: Role | None, new: Role | None) -> None:
    audit.record(
        tx,
        actor,
        action=action,
        resource_type="member",
        resource_id=ids.show("user", user_id),
        old=None if old is None else {"role": old.value},
        new=None if new is None else {"role": new.value},
    )
