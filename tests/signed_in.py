"""People in tests who are signed in: rows as sign-in leaves them, and an access token of the real keys."""

from dataclasses import dataclass
from uuid import UUID

from shared.kernel import db, ids
from shared.kernel.caller import Caller
from shared.tokens import service as tokens


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody with one session, who works in one org."""

    user_id: UUID
    session_id: UUID
    org_id: UUID

    def token(self, org_id: UUID | None = None) -> str:
        """A fresh access token, for the person's own org or for another."""
        return tokens.issue(user_id=self.user_id, session_id=self.session_id, org_id=org_id or self.org_id).text


def sign_in(org: Caller, *, role: str = "member", org_locked: bool = False) -> Person:
    """Return a new person with this role in the org, just signed in."""
    person = Person(user_id=ids.new(), session_id=ids.new(), org_id=org.org_id)
    with db.person(person.user_id) as tx:
        tx.execute(
            "INSERT INTO users (id, email, name) VALUES (%s, %s, 'Ada')",
            (person.user_id, f"{person.user_id.hex}@example.test"),
        )
        tx.execute(
            """INSERT INTO sessions (id, user_id, org_id, org_locked, method, ip, user_agent, expires_at)
               VALUES (%s, %s, %s, %s, 'password', '192.0.2.1', 'test', now() + interval '30 days')""",
            (person.session_id, person.user_id, org.org_id, org_locked),
        )
    join(org, person, role=role)
    return person


def join(org: Caller, person: Person, *, role: str) -> None:
    """Make the person a member of an org."""
    with db.tenant(org) as tx:
        tx.execute(
            "INSERT INTO memberships (org_id, user_id, role) VALUES (%s, %s, %s)", (org.org_id, person.user_id, role)
        )
