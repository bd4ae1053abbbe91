"""State Fail: the run fails for the reason found; its credits are settled and its sandbox is freed."""

from typing import Any
from uuid import UUID

from aws_lambda_powertools.utilities.typing import LambdaContext

from shared.kernel.caller import Caller
from shared.kernel.telemetry import invoked
from shared.runs import machine


@invoked
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, str]:
    run = machine.fail(Caller.system(UUID(event["org_id"])), UUID(event["run_id"]))
    return {"status": run.status}
