"""Each night: deletes what the org's plan keeps no longer: runs, sandboxes, answers; and what the org itself does."""

from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Protocol
from uuid import UUID

from aws_lambda_powertools.utilities.typing import LambdaContext

from shared.inference import service as inference
from shared.kernel import clock, db
from shared.kernel.caller import Caller
from shared.kernel.sweeping import sweep
from shared.kernel.telemetry import invoked, logger
from shared.quotas import service as quotas
from shared.runs import service as runs
from shared.sandboxes import service as sandboxes

# Each batch is committed by itself: a night that is cut short goes on where it was in the next one.
_AT_ONCE = 200


class Forget(Protocol):
    """Delete up to `limit` things that ended before a moment; return how many those were."""

    def __call__(self, tx: db.Tx, caller: Caller, *, before: datetime, limit: int) -> int: ...


_JOBS: dict[str, Forget] = {
    "runs": runs.forget_ended,
    "sandboxes": sandboxes.forget_ended,
    "answers": inference.forget_answers,
}


def retain(forget: Forget, org_id: UUID, *, at_once: int = _AT_ONCE) -> int:
    """Return how much of one kind was deleted of this org."""
    caller = Caller.system(org_id)
    with db.tenant(caller) as tx:
        limits, _ = quotas.limits_and_status(tx, org_id)
    if limits.retention_days is None:
        return 0
    before, forgotten = clock.now() - timedelta(days=limits.retention_days), 0
    while True:
        with db.tenant(caller) as tx:
            batch = forget(tx, caller, before=before, limit=at_once)
        forgotten += batch
        if batch < at_once:
            return forgotten


def retain_content(org_id: UUID, *, at_once: int = _AT_ONCE) -> int:
    """Return how many recorded prompts were deleted of this org, whose own settings say how old they may be."""
    caller, forgotten = Caller.system(org_id), 0
    while True:
        with db.tenant(caller) as tx:
            batch = inference.forget_content(tx, caller, limit=at_once)
        forgotten += batch
        if batch < at_once:
            return forgotten


@invoked
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, int]:
    with db.anonymous() as tx:
        orgs = quotas.every_org(tx)
    jobs: dict[str, Callable[[UUID], int]] = {name: partial(retain, forget) for name, forget in _JOBS.items()}
    done = sweep(orgs, jobs | {"content": retain_content})
    logger.info("retention", extra=done)
    return done
