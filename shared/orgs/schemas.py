"""Public JSON of orgs."""

from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import Field

from shared.identity.schemas import ApiKeyOut
from shared.kernel.fields import Input, Metadata, OrgId, Output
from shared.orgs.model import Org

Name = Annotated[str, Field(min_length=1, max_length=100, examples=["Acme"])]


class CreateOrg(Input):
    name: Name
    slug: Annotated[str | None, Field(description="Made of the name by default.", examples=["acme"])] = None
    plan: Annotated[Literal["free"], Field(description="Further plans come with billing.")] = "free"
    metadata: Metadata = {}


class OrgOut(Output):
    id: OrgId
    object: Literal["org"] = "org"
    name: str
    slug: str
    plan: str
    settings: dict[str, Any]
    metadata: Metadata
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, org: Org) -> Self:
        return cls(
            id=org.id,
            name=org.name,
            slug=org.slug,
            plan=org.plan,
            settings=org.settings,
            metadata=org.metadata,
            created_at=org.created_at,
            updated_at=org.updated_at,
        )


class NewOrgOut(Output):
    """A tenant just created. `api_key` is there when the operator made it: the key to go on with."""

    object: Literal["new_org"] = "new_org"
    org: OrgOut
    api_key: ApiKeyOut | None
