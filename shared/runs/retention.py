"""Runs that ended long ago are deleted with all that they said and did; what they cost stays in the ledgers."""

from datetime import datetime

from shared.audit import service as audit
from shared.kernel import ids
from shared.kernel.caller import Caller
from shared.kernel.db import Tx
from shared.runs import retention_store as store


def forget_ended(tx: Tx, caller: Caller, *, before: datetime, limit: int) -> int:
    """Delete up to `limit` runs that ended before that moment, the oldest first; return how many those were."""
    forgotten = store.delete_ended(tx, before=before, limit=limit)
    if forgotten:
        audit.record(
            tx,
            caller,
            action="run.forget",
            resource_type="org",
            resource_id=ids.show("org", caller.org_id),
            new={"runs": forgotten, "ended_before": before.isoformat()},
        )
    return forgotten
