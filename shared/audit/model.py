"""An audit event says who did what to which thing, from where, and is never changed or removed without that showing."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, TypedDict
from uuid import UUID

from shared.kernel import ids

# What the first entry of a tenant's chain follows.
GENESIS = bytes(32)


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """`seq` and `hash` are its entry in the tenant's chain: None while uncommitted, or when the entry was removed."""

    id: UUID
    actor: str
    actor_ip: str
    action: str
    resource_type: str
    resource_id: str
    old: dict[str, Any] | None
    new: dict[str, Any] | None
    request_id: str
    created_at: datetime
    seq: int | None
    hash: bytes | None


class Filter(TypedDict, total=False):
    """Which events are asked for: those that match all that is given, from `since` until before `until`."""

    actor: str | None
    action: str | None
    resource_type: str | None
    resource_id: str | None
    since: datetime | None
    until: datetime | None


@dataclass(frozen=True, slots=True)
class Head:
    """The newest entry of a chain. Kept elsewhere, it shows whether the chain's end was cut off."""

    seq: int = 0
    hash: bytes = GENESIS


class FaultKind(StrEnum):
    """What a chain can show to have been done to a trail."""

    EDITED = "edited"
    REMOVED = "removed"
    ENTRIES_REMOVED = "entries_removed"
    BROKEN_LINK = "broken_link"
    UNCHAINED = "unchained"


@dataclass(frozen=True, slots=True)
class Fault:
    """One place where a trail is not what was written."""

    kind: FaultKind
    event_id: UUID | None
    seq: int | None
    first_missing: int | None = None

    def __str__(self) -> str:
        event = "" if self.event_id is None else ids.show("audit", self.event_id)
        match self.kind:
            case FaultKind.EDITED:
                return f"{event} (entry {self.seq}) was edited"
            case FaultKind.REMOVED:
                return f"{event} (entry {self.seq}) was removed"
            case FaultKind.ENTRIES_REMOVED:
                return f"entries {self.first_missing} to {(self.seq or 0) - 1} of the chain were removed"
            case FaultKind.BROKEN_LINK:
                return f"entry {self.seq} does not follow from the entry before it: one of the two was edited"
            case FaultKind.UNCHAINED:
                return f"{event} has no entry in the chain"


@dataclass(frozen=True, slots=True)
class Verification:
    """What a walk over one tenant's trail found."""

    events: int
    head: Head
    faults: tuple[Fault, ...]


class TrailBroken(Exception):
    """A tenant's audit trail is not what was written; the log says where."""
