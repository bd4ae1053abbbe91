"""State Recover: turns what went wrong into the reason for which the run ends."""

from typing import Any
from uuid import UUID

from aws_lambda_powertools.utilities.typing import LambdaContext

from shared.kernel.caller import Caller
from shared.kernel.telemetry import invoked
from shared.runs import machine
from shared.runs.model import diagnose


@invoked
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, str]:
    reason, failure = diagnose(event["error"])
    caller = Caller.system(UUID(event["org_id"]))
    machine.recover(caller, UUID(event["run_id"]), reason=reason, failure=failure)
    return {"end_reason": reason}
