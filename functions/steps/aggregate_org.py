"""State AggregateOrg: adds up one tenant's days, each in a transaction of its own, and starts over where it stopped."""

from typing import Any
from uuid import UUID

from aws_lambda_powertools.utilities.typing import LambdaContext

from shared.kernel import db
from shared.kernel.caller import Caller
from shared.kernel.telemetry import invoked, logger
from shared.usage import days
from shared.usage.aggregation import Job
from shared.usage.days_model import DaysLeft

# No day of one tenant takes longer.
_ENOUGH_MS = 60_000


@invoked
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    caller = Caller.system(UUID(event["org_id"]))
    job = Job.read({key: event[key] for key in ("since", "until", "as_of")})
    if job.as_of is None:
        raise ValueError("as_of: a job knows when it began")
    with db.tenant(caller) as tx:
        wanted = days.days_to_add(tx, as_of=job.as_of, between=job.between)
    for number, day in enumerate(wanted):
        if context.get_remaining_time_in_millis() < _ENOUGH_MS:
            raise DaysLeft(f"{len(wanted) - number} days are left.")
        with db.tenant(caller) as tx:
            days.aggregate(tx, caller, day)
    if job.between is None:
        with db.tenant(caller) as tx:
            days.caught_up(tx, caller, as_of=job.as_of)
    logger.info("days added up", extra={"days": len(wanted)})
    return {"org_id": event["org_id"], "days": len(wanted), "failed": False}
