"""Models' answers of long ago are forgotten; that the calls were made, and what they cost, is not."""

from datetime import datetime, timedelta

from shared.audit import service as audit
from shared.inference import retention_store as store
from shared.inference.org_settings import get_settings
from shared.kernel import clock, ids
from shared.kernel.caller import Caller
from shared.kernel.db import Tx


def forget_answers(tx: Tx, caller: Caller, *, before: datetime, limit: int) -> int:
    """Forget up to `limit` answers given before that moment, the oldest first; return how many those were."""
    forgotten = store.forget_answers(tx, before=before, limit=limit)
    if forgotten:
        audit.record(
            tx,
            caller,
            action="answer.forget",
            resource_type="org",
            resource_id=ids.show("org", caller.org_id),
            new={"answers": forgotten, "given_before": before.isoformat()},
        )
    return forgotten


def forget_content(tx: Tx, caller: Caller, *, limit: int) -> int:
    """Forget up to `limit` recorded prompts, with their answers, that are older than the org wants; return how many."""
    before = clock.now() - timedelta(days=get_settings(tx).content_retention_days)
    forgotten = store.forget_content(tx, before=before, limit=limit)
    if forgotten:
        audit.record(
            tx,
            caller,
            action="content.forget",
            resource_type="org",
            resource_id=ids.show("org", caller.org_id),
            new={"calls": forgotten, "recorded_before": before.isoformat()},
        )
    return forgotten
