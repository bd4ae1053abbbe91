"""Use cases of orgs: create and read."""

from uuid import UUID

from shared.audit import service as audit
from shared.identity.policy import Role
from shared.kernel import ids
from shared.kernel.caller import Caller
from shared.kernel.db import Tx
from shared.kernel.errors import NotFound
from shared.orgs import store
from shared.orgs.model import Org, slug_of


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

    Raises `SlugTaken`, and `InvalidRequest` for a slug that is none.
    """
    org = store.insert_org(
        tx,
        org_id=org_id,
        name=name,
        slug=slug_of(name, slug, fallback=ids.show("org", org_id)[-6:]),
        plan=plan,
        metadata=metadata or {},
    )
    if owner is not None:
        store.insert_member(tx, user_id=owner, role=Role.OWNER)
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
    org = store.find_org(tx, org_id)
    if org is None:
        raise NotFound.of("org", ids.show("org", org_id))
    return org


def orgs_of_person(tx: Tx) -> list[tuple[Org, str]]:
    """Return the orgs of the person whose transaction this is, oldest first, with their role in each."""
    return store.orgs_of_current_user(tx)
