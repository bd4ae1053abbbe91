"""State Act: executes one of the tool calls of a step."""

from typing import Any
from uuid import UUID

from aws_lambda_powertools.utilities.typing import LambdaContext

from shared.kernel.caller import Caller
from shared.kernel.telemetry import invoked
from shared.runs import machine


@invoked
def handler(event: dict[str, Any], context: LambdaContext) -> None:
    machine.act(
        Caller.system(UUID(event["org_id"])), UUID(event["run_id"]), int(event["step_no"]), int(event["call_no"])
    )
