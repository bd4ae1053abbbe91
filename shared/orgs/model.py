"""An org is a tenant: people belong to it in one role each, and everything else belongs to it alone."""

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from shared.kernel.errors import Conflict, InvalidRequest

_SLUG_FORMAT = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,46}[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class Org:
    id: UUID
    name: str
    slug: str
    plan: str
    settings: dict[str, Any]
    metadata: dict[str, str]
    created_at: datetime
    updated_at: datetime


class SlugTaken(Conflict):
    """Another org has this slug."""

    code = "slug_taken"


def slug_of(name: str, wanted: str | None, fallback: str) -> str:
    """Return the slug asked for, or one made of the name; raise `InvalidRequest` when it isn't a slug."""
    if wanted is not None:
        if _SLUG_FORMAT.fullmatch(wanted) is None:
            raise InvalidRequest("slug: 1 to 48 of a-z, 0-9 and -, not at an end.", param="slug")
        return wanted
    made = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:32].strip("-")
    return f"{made}-{fallback}" if made else fallback
