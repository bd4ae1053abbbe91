"""Each minute: sends what the outboxes still hold, one tenant after the other."""

from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from shared.events import service
from shared.kernel.caller import Caller
from shared.kernel.sweeping import sweep
from shared.kernel.telemetry import invoked
from shared.runs.model import ZOMBIE_AFTER


@invoked
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, int]:
    orgs = service.orgs_with_work(zombie_after=ZOMBIE_AFTER)
    return sweep(orgs, {"events": lambda org_id: service.relay(Caller.system(org_id))})
