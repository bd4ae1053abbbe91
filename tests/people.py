"""People in tests: made as a confirmed registration makes them, with a real session."""

from uuid import UUID

from shared.identity.policy import Role, scopes_of
from shared.kernel import db, ids
from shared.kernel.caller import Caller
from shared.orgs import service as orgs
from shared.people import service as people
from shared.quotas import service as quotas
from shared.quotas.plans import Resource


def new_person(name: str) -> UUID:
    """Return the id of a new person, who has an org of their own and no password."""
    user_id = ids.new()
    email = f"{name.lower().replace(' ', '.')}-{ids.show('user', user_id)[-8:]}@people.test"
    with db.anonymous() as tx:
        people.create_person(tx, user_id=user_id, email=email, name=name, password_hash=None, request_id="test", ip="")
    return user_id


def joined(org: Caller, role: Role, *, name: str | None = None, user_id: UUID | None = None) -> Caller:
    """Return a person who is a member of this caller's org in this role, signed in there."""
    user_id = user_id or new_person(name or role.capitalize())
    system = Caller.system(org.org_id, request_id="test")
    with db.tenant(system) as tx:
        [seats] = [each for each in quotas.status(tx, org.org_id) if each.resource is Resource.MEMBERS]
        if seats.limit is not None and seats.used == seats.limit:
            # The smallest plan has one seat.
            more = {Resource.MEMBERS: seats.limit + 1}
            quotas.set_limits(tx, system, org.org_id, quotas=more)
        orgs.add_member(tx, system, user_id=user_id, role=role)
    with db.person(user_id) as tx:
        opened = people.open_session(
            tx, user_id=user_id, org_id=org.org_id, method="test", ip="192.0.2.1", user_agent="test", request_id="test"
        )
    return Caller(
        org_id=org.org_id,
        actor_id=ids.show("user", user_id),
        role=role,
        scopes=scopes_of(role),
        plan=org.plan,
        request_id="test",
        person_id=user_id,
        session_id=opened.session.id,
        ip="192.0.2.1",
    )
