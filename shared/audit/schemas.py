"""Public JSON of the audit trail."""

from datetime import datetime
from typing import Any, Literal, Self

from pydantic import Field

from shared.audit.model import AuditEvent
from shared.kernel.fields import AuditId, Output


class AuditEventOut(Output):
    id: AuditId
    object: Literal["audit_event"] = "audit_event"
    actor: str = Field(description="Who: an API key's id, or `system`.")
    action: str = Field(examples=["agent.create"])
    resource_type: str = Field(examples=["agent"])
    resource_id: str = Field(examples=["agent_01h455vb4pex5vsknk084sn02q"])
    old: dict[str, Any] | None
    new: dict[str, Any] | None
    request_id: str
    created_at: datetime

    @classmethod
    def of(cls, event: AuditEvent) -> Self:
        return cls(
            id=event.id,
            actor=event.actor,
            action=event.action,
            resource_type=event.resource_type,
            resource_id=event.resource_id,
            old=event.old,
            new=event.new,
            request_id=event.request_id,
            created_at=event.created_at,
        )
