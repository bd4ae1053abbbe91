"""Use cases of the audit trail: record within the transaction of what is recorded, read, export, verify."""

from collections.abc import Generator
from typing import Any, Unpack
from uuid import UUID

from shared.audit import store
from shared.audit.model import AuditEvent, Fault, FaultKind, Filter, Head, Verification
from shared.audit.redaction import cleaned
from shared.kernel import ids
from shared.kernel.caller import Caller
from shared.kernel.db import Tx
from shared.kernel.errors import NotFound
from shared.kernel.pagination import Slice

# Entries and events looked at by one statement.
_BATCH = 5_000
# Whoever empties a table is caught all the same: nobody reads a list longer than this.
MAX_FAULTS = 1_000


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

    What looks like one is replaced all the same, and what is too long is cut. `org_id` names the tenant whose trail
    it is where that isn't the caller's own: the operator creating an org.
    """
    store.insert_event(
        tx,
        event_id=ids.new(),
        org_id=org_id or caller.org_id,
        actor=caller.actor_id,
        actor_ip=caller.ip,
        action=action,
        resource_type=resource_type,
        resource_id=resource_id,
        old=cleaned(old),
        new=cleaned(new),
        request_id=caller.request_id,
    )


def list_events(tx: Tx, asked: Slice, **wanted: Unpack[Filter]) -> list[AuditEvent]:
    """Return up to `limit + 1` events that match, newest first."""
    return store.list_events(tx, asked, wanted)


def get_event(tx: Tx, event_id: UUID) -> AuditEvent:
    event = store.find_event(tx, event_id)
    if event is None:
        raise NotFound.of("audit event", ids.show("audit", event_id))
    return event


def events_after(tx: Tx, after: int, **wanted: Unpack[Filter]) -> Generator[AuditEvent]:
    """Yield the events beyond entry `after` of the chain that match, oldest first; close it to stop."""
    return store.events_after(tx, after, wanted)


def record_export(tx: Tx, caller: Caller, *, after: int, lines: int, **wanted: Unpack[Filter]) -> None:
    """Write down that part of the trail was taken away: after the reading, so that no page contains itself."""
    asked = {name: str(value) for name, value in wanted.items() if value is not None}
    record(
        tx,
        caller,
        action="audit.export",
        resource_type="org",
        resource_id=ids.show("org", caller.org_id),
        new=asked | {"after": after, "lines": lines},
    )


def every_org(tx: Tx) -> list[UUID]:
    """Return the id of every tenant, for jobs that look at one after the other."""
    return store.every_org(tx)


def verify(tx: Tx) -> Verification:
    """Walk over the trail of the tenant whose transaction this is, and say what is not as it was written.

    Names each edited, removed or added event and each removed entry of the chain, up to `MAX_FAULTS`. Events cut off
    together with their entries at the end of the chain leave no trace here: compare the head with one kept elsewhere.
    """
    head, faults = Head(), list[Fault]()
    while len(faults) < MAX_FAULTS:
        end, found = store.check_chain(tx, head, limit=_BATCH)
        if end is None:
            break
        head = end
        faults += found
    named = {fault.event_id for fault in faults}
    last, events = None, 0
    while True:
        last, count, unchained = store.check_events(tx, last, limit=_BATCH)
        if not count:
            break
        events += count
        faults += [Fault(FaultKind.UNCHAINED, event_id, None) for event_id in unchained if event_id not in named]
    return Verification(events, head, tuple(faults[:MAX_FAULTS]))
