"""Use cases of the audit trail: record within the transaction of what is recorded, list."""

from typing import Any
from uuid import UUID

from shared.audit import store
from shared.audit.model import AuditEvent
from shared.kernel import ids
from shared.kernel.caller import Caller
from shared.kernel.db import Tx
from shared.kernel.pagination import Slice


def record(
    tx: Tx,
    caller: Caller,
    *,
    action: str,
    resource_type: str,
    resource_id: str,
    old: dict[str, Any] | None = None,
    new: dict[str, Any] | None = None,
    org_id: UUID | None = None,
) -> None:
    """Write down that `caller` did `action` (e.g. `agent.create`). Never hand over a secret in `old` or `new`.

    `org_id` names the tenant whose trail it is where that isn't the caller's own: the operator creating an org.
    """
    store.insert_event(
        tx,
        event_id=ids.new(),
        org_id=org_id or caller.org_id,
        actor=caller.actor_id,
        action=action,
        resource_type=resource_type,
        resource_id=resource_id,
        old=old,
        new=new,
        request_id=caller.request_id,
    )


def list_events(tx: Tx, asked: Slice, *, action: str | None, resource_id: str | None) -> list[AuditEvent]:
    """Return up to `limit + 1` events, newest first."""
    return store.list_events(tx, asked, action=action, resource_id=resource_id)
