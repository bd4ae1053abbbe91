"""Public JSON of API keys, of who calls, and of the health page."""

from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import AwareDatetime, Field

from shared.identity.model import ApiKey, KeySecret
from shared.kernel.caller import Caller
from shared.kernel.fields import Input, KeyId, Metadata, OrgId, Output

Name = Annotated[str, Field(min_length=1, max_length=100, examples=["Acme"])]


class CreateApiKey(Input):
    name: Name
    scopes: Annotated[
        frozenset[str] | None,
        Field(description="By default all that the calling key has.", examples=[["agents:read", "runs:write"]]),
    ] = None
    expires_at: Annotated[AwareDatetime | None, Field(description="Never, by default.", examples=[None])] = None
    metadata: Metadata = {}


class ApiKeyOut(Output):
    id: KeyId
    object: Literal["api_key"] = "api_key"
    name: str
    hint: str = Field(description="The key's first and last characters.", examples=["ry_live_abcd…wxyz"])
    scopes: list[str]
    metadata: Metadata
    created_at: datetime
    last_used_at: datetime | None
    expires_at: datetime | None
    revoked_at: datetime | None
    secret: str | None = Field(None, description="The key itself: in the answer to its creation only.")

    @classmethod
    def of(cls, key: ApiKey, secret: KeySecret | None = None) -> Self:
        return cls(
            id=key.id,
            name=key.name,
            hint=key.hint,
            scopes=sorted(key.scopes),
            metadata=key.metadata,
            created_at=key.created_at,
            last_used_at=key.last_used_at,
            expires_at=key.expires_at,
            revoked_at=key.revoked_at,
            secret=None if secret is None else secret.text,
        )


class MeOut(Output):
    """Who this key acts for."""

    object: Literal["caller"] = "caller"
    org_id: OrgId
    actor_id: str = Field(examples=["key_01h455vb4pex5vsknk084sn02q"])
    role: str
    scopes: list[str]
    plan: str

    @classmethod
    def of(cls, caller: Caller) -> Self:
        return cls(
            org_id=caller.org_id,
            actor_id=caller.actor_id,
            role=caller.role,
            scopes=sorted(caller.scopes),
            plan=caller.plan,
        )


class Health(Output):
    """Whether the platform's parts answer. `degraded`: it works on without its cache, more slowly."""

    object: Literal["health"] = "health"
    status: Literal["ok", "degraded"]
    postgres: Literal["ok"] = "ok"
    redis: Literal["ok", "down"]
