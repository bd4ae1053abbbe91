"""State Prepare: the run begins; tells whether it needs a sandbox."""

from typing import Any
from uuid import UUID

from aws_lambda_powertools.utilities.typing import LambdaContext

from shared.kernel.caller import Caller
from shared.kernel.telemetry import invoked
from shared.runs import machine


@invoked
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    needs_sandbox = machine.prepare(Caller.system(UUID(event["org_id"])), UUID(event["run_id"]))
    return {"needs_sandbox": needs_sandbox, "step_no": 1}
