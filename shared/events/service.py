"""Use cases of events: write to the outbox within a transaction, relay after it."""

from datetime import timedelta
from typing import Any
from uuid import UUID

from shared.events import event_bridge, store
from shared.kernel import db, ids
from shared.kernel.caller import Caller
from shared.kernel.db import Tx
from shared.kernel.errors import Unavailable
from shared.kernel.telemetry import logger


def publish(tx: Tx, *, event_type: str, subject: str, data: dict[str, Any]) -> None:
    """Announce something in the transaction that makes it true; the relay sends it once committed."""
    store.insert_event(tx, event_id=ids.new(), event_type=event_type, subject=subject, data=data)


def relay(caller: Caller) -> int:
    """Send what the tenant's outbox holds, oldest first, and return how many.

    An event is marked as sent after the bus took it: a crash in between sends it again under the same id.
    """
    sent = 0
    while True:
        with db.tenant(caller) as tx:
            batch = store.unsent(tx, limit=event_bridge.BATCH)
            if batch:
                event_bridge.put(batch)
                store.mark_sent(tx, [event.id for event in batch])
            else:
                store.delete_sent(tx)
                return sent
        sent += len(batch)


def relay_soon(caller: Caller) -> None:
    """Relay now rather than within the minute; what can't be sent now the schedule sends."""
    try:
        relay(caller)
    except Unavailable:
        logger.warning("relay postponed")


def orgs_with_work(*, zombie_after: timedelta) -> list[UUID]:
    """Return the tenants with events to send, or with holds, sandboxes or runs that are overdue."""
    with db.anonymous() as tx:
        return store.orgs_with_work(tx, zombie_after=zombie_after)
