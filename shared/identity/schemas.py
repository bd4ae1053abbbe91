"""Public JSON of API keys, service accounts, and of the health page."""

from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import AwareDatetime, Field

from shared.identity.model import (
    DEFAULT_OVERLAP_S,
    MAX_OVERLAP_S,
    MAX_RATE_LIMIT_PER_MINUTE,
    ApiKey,
    KeyMode,
    KeySecret,
    ServiceAccount,
)
from shared.kernel.fields import Input, KeyId, Metadata, Output, ServiceAccountId

Name = Annotated[str, Field(min_length=1, max_length=100, examples=["Acme"])]


class CreateApiKey(Input):
    name: Name
    mode: Annotated[
        KeyMode, Field(description="A test key may do what a live one may, and always expires.", examples=["live"])
    ] = KeyMode.LIVE
    scopes: Annotated[
        frozenset[str] | None,
        Field(
            description="By default all that the caller has and a key, or its service account, can have.",
            examples=[["agents:read", "runs:write"]],
        ),
    ] = None
    expires_at: Annotated[
        AwareDatetime | None,
        Field(description="By default never; for a test key in 30 days, and in 90 at most.", examples=[None]),
    ] = None
    rate_limit_per_minute: Annotated[
        int | None,
        Field(
            ge=1,
            le=MAX_RATE_LIMIT_PER_MINUTE,
            description="Requests a minute, where that is less than the plan allows.",
            examples=[None],
        ),
    ] = None
    service_account_id: Annotated[
        ServiceAccountId | None, Field(description="The service account that it belongs to.", examples=[None])
    ] = None
    metadata: Metadata = {}


class RotateApiKey(Input):
    overlap_s: Annotated[
        int,
        Field(
            ge=0,
            le=MAX_OVERLAP_S,
            description="Seconds that the old key works on, unless it expires before.",
            examples=[DEFAULT_OVERLAP_S],
        ),
    ] = DEFAULT_OVERLAP_S


class ApiKeyOut(Output):
    id: KeyId
    object: Literal["api_key"] = "api_key"
    name: str
    mode: KeyMode
    hint: str = Field(description="The key's first and last characters.", examples=["ry_live_abcd…wxyz"])
    scopes: list[str]
    metadata: Metadata
    rate_limit_per_minute: int | None
    service_account_id: ServiceAccountId | None
    replaced_by: KeyId | None = Field(description="The key that it was rotated to.")
    created_at: datetime
    last_used_at: datetime | None
    expires_at: datetime | None
    revoked_at: datetime | None
    secret: str | None = Field(None, description="The key itself: in the answer to its creation or rotation only.")

    @classmethod
    def of(cls, key: ApiKey, secret: KeySecret | None = None) -> Self:
        return cls(
            id=key.id,
            name=key.name,
            mode=key.mode,
            hint=key.hint,
            scopes=sorted(key.scopes),
            metadata=key.metadata,
            rate_limit_per_minute=key.rate_limit_per_minute,
            service_account_id=key.service_account_id,
            replaced_by=key.replaced_by,
            created_at=key.created_at,
            last_used_at=key.last_used_at,
            expires_at=key.expires_at,
            revoked_at=key.revoked_at,
            secret=None if secret is None else secret.text,
        )


class CreateServiceAccount(Input):
    name: Name
    scopes: Annotated[
        frozenset[str] | None,
        Field(
            description="What its keys may do at most; by default all that the caller has and a key can have.",
            examples=[["agents:read", "runs:write"]],
        ),
    ] = None
    metadata: Metadata = {}


class UpdateServiceAccount(Input):
    """Only what is given changes."""

    name: Annotated[Name | None, Field(examples=["Deployer"])] = None
    scopes: Annotated[frozenset[str] | None, Field(examples=[["agents:read"]])] = None
    metadata: Metadata | None = None


class ServiceAccountOut(Output):
    id: ServiceAccountId
    object: Literal["service_account"] = "service_account"
    name: str
    scopes: list[str]
    metadata: Metadata
    created_by: str
    created_at: datetime
    disabled_at: datetime | None

    @classmethod
    def of(cls, account: ServiceAccount) -> Self:
        return cls(
            id=account.id,
            name=account.name,
            scopes=sorted(account.scopes),
            metadata=account.metadata,
            created_by=account.created_by,
            created_at=account.created_at,
            disabled_at=account.disabled_at,
        )


class Health(Output):
    """Whether the platform's parts answer. `degraded`: it works on without its cache, more slowly."""

    object: Literal["health"] = "health"
    status: Literal["ok", "degraded"]
    postgres: Literal["ok"] = "ok"
    redis: Literal["ok", "down"]
