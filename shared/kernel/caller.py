"""Who calls: the tenant, the actor and what they may do, as established by the authorizer alone."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self
from uuid import UUID

from shared.kernel.errors import Forbidden, RunyardError, Unauthenticated, Unavailable


@dataclass(frozen=True, slots=True)
class Caller:
    """The authenticated party of a request. `org_id` is the only source of the tenant anywhere.

    `actor_id` names the API key or person (public id) for the audit trail; `role` is `operator` for the platform's
    own key, `api` for a tenant's key and `system` for the platform's own work on a tenant's behalf.
    """

    org_id: UUID
    actor_id: str
    role: str
    scopes: frozenset[str]
    plan: str
    request_id: str = ""

    def require(self, scope: str) -> None:
        """Raise `Forbidden` unless the caller holds `scope`, e.g. `agents:write`."""
        if scope not in self.scopes:
            raise Forbidden(f"This key lacks the scope {scope}.")

    def to_context(self) -> dict[str, str]:
        """Return what the authorizer hands to API Gateway: flat strings, as its context demands."""
        return {
            "org_id": str(self.org_id),
            "actor_id": self.actor_id,
            "role": self.role,
            "scopes": " ".join(sorted(self.scopes)),
            "plan": self.plan,
        }

    @classmethod
    def from_context(cls, context: Mapping[str, Any], *, request_id: str = "") -> Self:
        """Read back `to_context`; raise what `refused` tells of, or `Unauthenticated` when there is none."""
        if "org_id" not in context:
            message = str(context.get("refusal") or "Send an API key as `Authorization: Bearer ry_live_…`.")
            raise Unavailable(message) if context.get("refused_as") == Unavailable.code else Unauthenticated(message)
        return cls(
            org_id=UUID(context["org_id"]),
            actor_id=context["actor_id"],
            role=context["role"],
            scopes=frozenset(context["scopes"].split()),
            plan=context["plan"],
            request_id=request_id,
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
