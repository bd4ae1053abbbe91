"""Sandboxes that ended long ago are deleted with their commands; what they cost stays in the ledgers."""

from datetime import datetime

from shared.audit import service as audit
from shared.kernel import ids
from shared.kernel.caller import Caller
from shared.kernel.db import Tx
from shared.sandboxes import retention_store as store


def forget_ended(tx: Tx, caller: Caller, *, before: datetime, limit: int) -> int:
    """Delete up to `limit` sandboxes that ended before that moment, the oldest first; return how many those were."""
    forgotten = store.delete_ended(tx, before=before, limit=limit)
    if forgotten:
        audit.record(
            tx,
            caller,
            action="sandbox.forget",
            resource_type="org",
            resource_id=ids.show("org", caller.org_id),
            new={"sandboxes": forgotten, "ended_before": before.isoformat()},
        )
    return forgotten
