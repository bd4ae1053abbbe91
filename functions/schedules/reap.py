"""Each minute: ends what is overdue or stalled, expires credits, forgets old request keys, asks for late letters."""

from datetime import timedelta
from typing import Any
from uuid import UUID

from aws_lambda_powertools.utilities.typing import LambdaContext

from shared.billing import service as billing
from shared.events import service as events
from shared.inference import spending
from shared.kernel import db, idempotency
from shared.kernel.caller import Caller
from shared.kernel.sweeping import sweep
from shared.kernel.telemetry import invoked
from shared.people import service as people
from shared.runs import service as runs
from shared.runs.model import ZOMBIE_AFTER
from shared.sandboxes import service as sandboxes

# Asked for when it was committed, a letter leaves within seconds.
_LETTERS_LATE_AFTER = timedelta(minutes=1)


def release_holds(org_id: UUID) -> int:
    caller = Caller.system(org_id)
    with db.tenant(caller) as tx:
        return billing.release_expired(tx, caller)


def release_budgets(org_id: UUID) -> int:
    caller = Caller.system(org_id)
    with db.tenant(caller) as tx:
        return spending.release_expired_budget_holds(tx, caller)


def expire_credits(org_id: UUID) -> int:
    caller = Caller.system(org_id)
    with db.tenant(caller) as tx:
        return billing.expire(tx, caller)


def forget_keys(org_id: UUID) -> int:
    with db.tenant(Caller.system(org_id)) as tx:
        return idempotency.purge(tx)


@invoked
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, int]:
    # First, so that letters leave although some tenant can't be swept.
    letters = people.ask_for_unsent(_LETTERS_LATE_AFTER)
    working = events.orgs_with_work(zombie_after=ZOMBIE_AFTER)
    expiring = {*billing.orgs_with_expired_credits(), *spending.orgs_with_expired_budget_holds()}
    return {"letters": letters} | sweep(
        [*working, *expiring.difference(working)],
        {
            # Runs first: ending one settles its hold and frees its sandbox.
            "runs": lambda org_id: runs.end_zombies(Caller.system(org_id)),
            "sandboxes": lambda org_id: sandboxes.end_overdue(Caller.system(org_id)),
            "holds": release_holds,
            "budgets": release_budgets,
            "credits": expire_credits,
            "keys": forget_keys,
        },
    )
