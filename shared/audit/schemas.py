"""Public JSON of the audit trail."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any, Literal, Self

from pydantic import Field

from shared.audit.model import AuditEvent
from shared.kernel.fields import AuditId, Output

MAX_EXPORT_LINES = 10_000
# Lambda answers with at most 6 MB, in base64.
MAX_EXPORT_BYTES = 4_000_000


class AuditEventOut(Output):
    id: AuditId
    object: Literal["audit_event"] = "audit_event"
    actor: str = Field(description="Who: an API key's id, a person's, or `system`.")
    actor_ip: str = Field(description="The client's address; empty for work of the platform's own.")
    action: str = Field(examples=["agent.create"])
    resource_type: str = Field(examples=["agent"])
    resource_id: str = Field(examples=["agent_01h455vb4pex5vsknk084sn02q"])
    old: dict[str, Any] | None
    new: dict[str, Any] | None
    request_id: str
    created_at: datetime
    seq: int | None = Field(description="Its place in the org's chain of events, without gaps from 1.")
    hash: str | None = Field(description="SHA-256 over the hash before it and the event, in hexadecimal.")

    @classmethod
    def of(cls, event: AuditEvent) -> Self:
        return cls(
            id=event.id,
            actor=event.actor,
            actor_ip=event.actor_ip,
            action=event.action,
            resource_type=event.resource_type,
            resource_id=event.resource_id,
            old=event.old,
            new=event.new,
            request_id=event.request_id,
            created_at=event.created_at,
            seq=event.seq,
            hash=None if event.hash is None else event.hash.hex(),
        )


class ExportEnd(Output):
    """The last line of each page of an export; without it the page was cut off."""

    object: Literal["audit_export_end"] = "audit_export_end"
    lines: int = Field(description="How many events stand before this line.")
    has_more: bool
    next_cursor: int = Field(description="Give this as `cursor` to get what follows, now or when there is more.")


def export_page(events: Iterable[AuditEvent], *, after: int) -> tuple[str, ExportEnd]:
    """Return one page of JSON Lines, and its last line as an object: as many events as an answer can hold."""
    lines: list[str] = []
    size, more = 0, False
    for event in events:
        line = AuditEventOut.of(event).model_dump_json()
        size += len(line.encode()) + 1
        if len(lines) == MAX_EXPORT_LINES or (lines and size > MAX_EXPORT_BYTES):
            more = True
            break
        lines.append(line)
        after = event.seq or after
    end = ExportEnd(lines=len(lines), has_more=more, next_cursor=after)
    return "".join(f"{line}\n" for line in [*lines, end.model_dump_json()]), end
