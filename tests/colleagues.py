"""People of one org as the authorizer would find them, for tests of what each of them may see and do."""

from shared.identity.policy import Role, scopes_of
from shared.kernel import ids
from shared.kernel.caller import Caller
from tests.signed_in import sign_in


def colleague(org: Caller, role: str = "member") -> Caller:
    """Return a new person of this org with this role, as the caller of a request."""
    person = sign_in(org, role=role)
    return Caller(
        org_id=org.org_id,
        actor_id=ids.show("user", person.user_id),
        role=role,
        scopes=scopes_of(Role(role)),
        plan=org.plan,
        request_id="test",
        person_id=person.user_id,
        session_id=person.session_id,
    )
