"""Use cases of orgs: create, read, change; and the door to those of members, invitations and teams."""

from uuid import UUID

from shared.audit import service as audit
from shared.identity.policy import Role
from shared.kernel import ids
from shared.kernel.caller import Caller
from shared.kernel.db import Tx
from shared.kernel.errors import NotFound
from shared.kernel.pagination import Slice
from shared.orgs import members_store, store
from shared.orgs.invitations import (
    accept_invitation,
    ask_for_unsent_invitations,
    get_invitation,
    invite,
    list_invitations,
    resend_invitation,
    revoke_invitation,
    send_invitation,
)
from shared.orgs.members import add_member, change_role, get_member, holders, list_members, remove_member, role_of, seat
from shared.orgs.model import Org, OrgSettings, check_may_own_another, slug_of
from shared.orgs.teams import (
    add_to_team,
    create_team,
    delete_team,
    get_team,
    list_team_members,
    list_teams,
    remove_from_team,
    update_team,
)

__all__ = [
    "accept_invitation",
    "add_member",
    "add_to_team",
    "ask_for_unsent_invitations",
    "change_role",
    "create_org",
    "create_team",
    "delete_team",
    "get_invitation",
    "get_member",
    "get_org",
    "get_team",
    "holders",
    "invite",
    "list_invitations",
    "list_members",
    "list_team_members",
    "list_teams",
    "orgs_of_caller",
    "orgs_of_person",
    "remove_from_team",
    "remove_member",
    "resend_invitation",
    "revoke_invitation",
    "role_of",
    "send_invitation",
    "set_settings",
    "update_org",
    "update_team",
]


def create_org(
    tx: Tx,
    creator: Caller,
    *,
    org_id: UUID,
    name: str,
    slug: str | None = None,
    plan: str = "free",
    metadata: dict[str, str] | None = None,
    owner: UUID | None = None,
) -> Org:
    """Create a tenant, with `owner` as its first member. `tx` acts for the new org (`db.acting_for`).

    Raises `SlugTaken`, `TooManyOrgs`, and `InvalidRequest` for a slug that is none.
    """
    if owner is not None:
        check_may_own_another(role for _, role in store.orgs_of_current_user(tx))
    org = store.insert_org(
        tx,
        org_id=org_id,
        name=name,
        slug=slug_of(name, slug, fallback=ids.show("org", org_id)[-6:]),
        plan=plan,
        metadata=metadata or {},
    )
    if owner is not None:
        members_store.insert(tx, user_id=owner, role=Role.OWNER)
        seat(tx, org_id, owner, Role.OWNER)
    audit.record(
        tx,
        creator,
        org_id=org_id,
        action="org.create",
        resource_type="org",
        resource_id=ids.show("org", org_id),
        new={"name": name, "slug": org.slug, "plan": plan}
        | ({} if owner is None else {"owner": ids.show("user", owner)}),
    )
    return org


def get_org(tx: Tx, org_id: UUID) -> Org:
    """Return the org, which exists for its own callers alone."""
    return _found(store.find_org(tx, org_id), org_id)


def update_org(tx: Tx, caller: Caller, *, name: str | None, slug: str | None, metadata: dict[str, str] | None) -> Org:
    """Change what is given of the caller's org; raise `SlugTaken`, and `InvalidRequest` for a slug that is none."""
    before = _found(store.find_org(tx, caller.org_id, lock=True), caller.org_id)
    after = store.update_org(
        tx,
        caller.org_id,
        name=before.name if name is None else name,
        slug=before.slug if slug is None else slug_of(before.name, slug, fallback=""),
        metadata=before.metadata if metadata is None else metadata,
    )
    _record(tx, caller, "org.update", old=_described(before), new=_described(after))
    return after


def set_settings(tx: Tx, caller: Caller, settings: OrgSettings) -> OrgSettings:
    """Replace the settings of the caller's org; raise `InvalidRequest` for values that are none."""
    before = _found(store.find_org(tx, caller.org_id, lock=True), caller.org_id)
    after = store.set_settings(tx, caller.org_id, settings.checked()).settings
    _record(tx, caller, "org.update_settings", old=before.settings.to_json(), new=after.to_json())
    return after


def orgs_of_caller(tx: Tx, caller: Caller, asked: Slice) -> list[tuple[Org, str]]:
    """Return up to `limit + 1` orgs, newest first, with the caller's role in each: a person's, else the key's own.

    Whoever signed in through an org's own sign-in, and so may not create orgs, is known to that org alone.
    """
    if caller.person_id is None or "orgs:create" not in caller.scopes:
        own = get_org(tx, caller.org_id)
        return [] if asked.before is not None and own.id >= asked.before else [(own, caller.role)]
    return store.page_of_current_user(tx, asked)


def orgs_of_person(tx: Tx) -> list[tuple[Org, str]]:
    """Return the orgs of the person whose transaction this is, oldest first, with their role in each."""
    return store.orgs_of_current_user(tx)


def _found(org: Org | None, org_id: UUID) -> Org:
    if org is None:
        raise NotFound.of("org", ids.show("org", org_id))
    return org


def _described(org: Org) -> dict[str, object]:
    return {"name": org.name, "slug": org.slug, "metadata": org.metadata}


def _record(tx: Tx, caller: Caller, action: str, *, old: dict[str, object], new: dict[str, object]) -> None:
    org_id = ids.show("org", caller.org_id)
    audit.record(tx, caller, action=action, resource_type="org", resource_id=org_id, old=old, new=new)
