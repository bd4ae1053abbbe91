"""State Think: one model call; tells whether tools are to be called or the run has its answer."""

from typing import Any
from uuid import UUID

from aws_lambda_powertools.utilities.typing import LambdaContext

from shared.kernel.caller import Caller
from shared.kernel.telemetry import invoked
from shared.runs import machine


@invoked
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    step_no = int(event["step_no"])
    calls = machine.think(
        Caller.system(UUID(event["org_id"])), UUID(event["run_id"]), step_no, worker=context.aws_request_id
    )
    return {
        "next": "act" if calls else "finish",
        "calls": calls,
        "step_no": step_no,
        "next_step_no": step_no + 1,
    }
