"""An audit event says who did what to which thing, and is never changed or removed."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID


@dataclass(frozen=True, slots=True)
class AuditEvent:
    id: UUID
    actor: str
    action: str
    resource_type: str
    resource_id: str
    old: dict[str, Any] | None
    new: dict[str, Any] | None
    request_id: str
    created_at: datetime
