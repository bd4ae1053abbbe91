"""Each hour: begins the next month of every subscription whose month is over, and grants what its plan includes."""

from typing import Any
from uuid import UUID

from aws_lambda_powertools.utilities.typing import LambdaContext

from shared.billing import service
from shared.kernel import db
from shared.kernel.caller import Caller
from shared.kernel.sweeping import sweep
from shared.kernel.telemetry import invoked, logger


def renew(org_id: UUID) -> int:
    with db.tenant(Caller.system(org_id)) as tx:
        return int(service.renew(tx, org_id))


@invoked
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, int]:
    with db.anonymous() as tx:
        due = service.orgs_with_period_over(tx)
    done = sweep(due, {"renewed": renew})
    logger.info("subscriptions renewed", extra=done)
    return done
