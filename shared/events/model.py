"""An event is committed with what it tells of, then sent at least once under the same id."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID


@dataclass(frozen=True, slots=True)
class OutboxEvent:
    """`type` as in `run.requested`, `subject` the public id of what it is about, `data` ids and small facts only."""

    id: UUID
    org_id: UUID
    type: str
    subject: str
    data: dict[str, Any]
    created_at: datetime
