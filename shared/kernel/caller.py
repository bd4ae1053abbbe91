"""Who calls: the tenant, the actor and what they may do, as established by the authorizer alone."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self
from uuid import UUID

from shared.kernel import ids
from shared.kernel.errors import Forbidden, RunyardError, Unauthenticated, Unavailable, error_of_code


@dataclass(frozen=True, slots=True)
class Attribution:
    """Whose use something is, by public ids: of which agent, and of the person or the key that had it done."""

    agent_id: str = ""
    person_id: str = ""
    key_id: str = ""

    @classmethod
    def of(cls, *, actor_id: str, person_id: UUID | None = None, agent_id: str = "") -> Self:
        """Return what an actor does: a person's is theirs, a key's is its own, the platform's is nobody's."""
        return cls(
            agent_id=agent_id,
            person_id="" if person_id is None else ids.show("user", person_id),
            key_id=actor_id if actor_id.startswith("key_") else "",
        )

    def dimensions(self) -> dict[str, str]:
        """Return the ids that are known, by name."""
        named = {"agent_id": self.agent_id, "person_id": self.person_id, "key_id": self.key_id}
        return {name: value for name, value in named.items() if value}


@dataclass(frozen=True, slots=True)
class Caller:
    """The authenticated party of a request. `org_id` is the only source of the tenant anywhere.

    `actor_id` names the API key, service account or person (public id) for the audit trail. `role` is a person's role
    in the org (`owner`, `admin`, `member`, `viewer`), `api` for a tenant's key, `operator` for the platform's own key
    and `system` for the platform's own work on a tenant's behalf. `scopes` is all the caller may do: a key's own, or
    those of the role. `person_id` and `session_id` are set for people alone. `ip` is the client's address.
    `rates` are the caller's rate limits as `shared/kernel/limiting.py` reads them; empty: none. `behalf` is set where
    the platform works for somebody, say in a run's steps: what that uses is theirs.
    """

    org_id: UUID
    actor_id: str
    role: str
    scopes: frozenset[str]
    plan: str
    request_id: str = ""
    person_id: UUID | None = None
    session_id: UUID | None = None
    ip: str = ""
    rates: str = ""
    behalf: Attribution | None = None

    @property
    def attribution(self) -> Attribution:
        """Whose use it is, what this caller uses: theirs, or of those on whose behalf it acts."""
        return self.behalf or Attribution.of(actor_id=self.actor_id, person_id=self.person_id)

    def require(self, scope: str) -> None:
        """Raise `Forbidden` unless the caller holds `scope`, e.g. `agents:write`."""
        if scope not in self.scopes:
            who = "This key" if self.person_id is None else f"The role {self.role}"
            raise Forbidden(f"{who} lacks the scope {scope}.")

    @property
    def only_own(self) -> UUID | None:
        """The person to whose things, and those shared with them, the caller is confined; None: sees all of the org's.

        Stores choose their statement by it: the rule is in docs/decisions/0025-what-members-see.md.
        """
        return self.person_id if self.role == "member" else None

    def to_context(self) -> dict[str, str]:
        """Return what the authorizer hands to API Gateway: flat strings, as its context demands."""
        return {
            "org_id": str(self.org_id),
            "actor_id": self.actor_id,
            "role": self.role,
            "scopes": " ".join(sorted(self.scopes)),
            "plan": self.plan,
            "person_id": _text(self.person_id),
            "session_id": _text(self.session_id),
            "rates": self.rates,
        }

    @classmethod
    def from_context(cls, context: Mapping[str, Any], *, request_id: str = "", ip: str = "") -> Self:
        """Read back `to_context`; raise what `refused` tells of, or `Unauthenticated` when there is none."""
        if "org_id" not in context:
            message = str(context.get("refusal") or "Send an API key or access token as `Authorization: Bearer …`.")
            refused_as = error_of_code(str(context.get("refused_as", "")))
            raise (refused_as if refused_as and issubclass(refused_as, _REFUSALS) else Unauthenticated)(message)
        return cls(
            org_id=UUID(context["org_id"]),
            actor_id=context["actor_id"],
            role=context["role"],
            scopes=frozenset(context["scopes"].split()),
            plan=context["plan"],
            request_id=request_id,
            person_id=_uuid(context.get("person_id")),
            session_id=_uuid(context.get("session_id")),
            ip=ip,
            rates=context.get("rates", ""),
        )

    @staticmethod
    def refused(error: RunyardError) -> dict[str, str]:
        """Return what the authorizer hands on about a request that has no caller."""
        return {"refusal": error.message, "refused_as": error.code}

    @classmethod
    def system(cls, org_id: UUID, *, request_id: str = "") -> Self:
        """Return the platform acting for a tenant, inside steps, queues and schedules."""
        return cls(
            org_id=org_id,
            actor_id="system",
            role="system",
            scopes=frozenset(),
            plan="",
            request_id=request_id,
        )


# What the authorizer may hand on; anything else in the context is not ours.
_REFUSALS = (Unauthenticated, Unavailable)


def _text(value: UUID | None) -> str:
    return "" if value is None else str(value)


def _uuid(text: str | None) -> UUID | None:
    return UUID(text) if text else None
