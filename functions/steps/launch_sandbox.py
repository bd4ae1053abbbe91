"""State LaunchSandbox: starts the run's sandbox, whose registration sends the task token."""

from typing import Any
from uuid import UUID

from aws_lambda_powertools.utilities.typing import LambdaContext

from shared.kernel.caller import Caller
from shared.kernel.telemetry import invoked
from shared.runs import machine


@invoked
def handler(event: dict[str, Any], context: LambdaContext) -> None:
    caller = Caller.system(UUID(event["org_id"]))
    machine.launch_sandbox(caller, UUID(event["run_id"]), wake_token=event["task_token"])
