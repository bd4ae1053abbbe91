"""People for tests of orgs: who registers gets an org of their own, who joins is a member of somebody's."""

from dataclasses import dataclass, replace
from uuid import UUID

import pytest

from shared.identity.policy import Role, scopes_of
from shared.kernel import db, ids
from shared.kernel.caller import Caller
from shared.orgs import service as orgs
from shared.quotas import service as quotas
from shared.quotas.plans import Resource


@dataclass(frozen=True)
class People:
    """Makes persons; the address of `Ada` is ada@example.com."""

    def registers(self, name: str, *, seats: int = 10) -> Caller:
        """Return somebody new in an org of their own, which has this many seats."""
        org_id = ids.new()
        owner = self._exists(name, org_id=org_id, role=Role.OWNER)
        with db.tenant(owner) as tx:
            orgs.create_org(tx, owner, org_id=org_id, name=f"{name}'s org", owner=owner.person_id)
            quotas.set_limits(tx, owner, org_id, quotas={Resource.MEMBERS: seats})
        return owner

    def joins(self, owner: Caller, name: str, role: Role) -> Caller:
        """Return somebody new as a member of the owner's org."""
        joined = self._exists(name, org_id=owner.org_id, role=role)
        assert joined.person_id is not None
        with db.tenant(owner) as tx:
            orgs.add_member(tx, owner, user_id=joined.person_id, role=role)
        return joined

    def in_org_of(self, person: Caller, owner: Caller, role: Role) -> Caller:
        """Return the same person with a token for another org."""
        return replace(person, org_id=owner.org_id, role=role.value, scopes=scopes_of(role))

    def _exists(self, name: str, *, org_id: UUID, role: Role) -> Caller:
        user_id = ids.new()
        with db.person(user_id) as tx:
            tx.execute(
                "INSERT INTO users (id, email, name) VALUES (%s, %s, %s)",
                (user_id, f"{name.lower()}@example.com", name),
            )
        return Caller(
            org_id=org_id,
            actor_id=ids.show("user", user_id),
            role=role.value,
            scopes=scopes_of(role),
            plan="free",
            request_id="test",
            person_id=user_id,
        )


@pytest.fixture
def people(database: str) -> People:
    return People()


def seats(caller: Caller) -> int:
    """Return how many seats the caller's org has taken."""
    with db.tenant(caller) as tx:
        return next(each.used for each in quotas.status(tx, caller.org_id) if each.resource is Resource.MEMBERS)


def actions(caller: Caller) -> list[tuple[str, str]]:
    """Return who did what in the caller's org, oldest first."""
    with db.tenant(caller) as tx:
        rows = tx.execute("SELECT actor, action FROM audit_events ORDER BY id").fetchall()
    return [(row["actor"], row["action"]) for row in rows]
