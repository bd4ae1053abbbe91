"""Step Functions: starts and stops the execution that coordinates a run. Its name is the run's id."""

import json
from typing import TYPE_CHECKING
from uuid import UUID

from botocore.exceptions import BotoCoreError, ClientError

from shared.kernel import aws, settings
from shared.kernel.errors import Unavailable

if TYPE_CHECKING:
    from mypy_boto3_stepfunctions import SFNClient

# It never was, or it has just ended by itself, as one does whose next step finds its run ended: nothing else is wrong
# with arguments that are all ours. Source: https://docs.aws.amazon.com/step-functions/latest/apireference/API_StopExecution.html
_NOT_RUNNING = {"ExecutionDoesNotExist", "ValidationException"}


def start_execution(*, org_id: UUID, run_id: UUID) -> None:
    """Start the run's execution; starting it again does nothing. Raises `Unavailable`."""
    try:
        _client().start_execution(
            stateMachineArn=settings.run_machine_arn(),
            name=str(run_id),
            input=json.dumps({"org_id": str(org_id), "run_id": str(run_id)}),
        )
    except ClientError as error:
        if error.response["Error"]["Code"] != "ExecutionAlreadyExists":
            raise
    except BotoCoreError as error:
        raise Unavailable("Step Functions can't be reached; the run starts once it can.") from error


def stop_execution(run_id: UUID, *, cause: str) -> None:
    """Stop the run's execution; one that has ended, or never was, is fine. Raises `Unavailable`."""
    try:
        _client().stop_execution(executionArn=_execution_arn(run_id), error="RunEnded", cause=cause)
    except ClientError as error:
        if error.response["Error"]["Code"] not in _NOT_RUNNING:
            raise
    except BotoCoreError as error:
        raise Unavailable("Step Functions can't be reached; the execution ends at its next step.") from error


def is_running(run_id: UUID) -> bool | None:
    """Return whether the run's execution is under way; None when there is none."""
    try:
        return _client().describe_execution(executionArn=_execution_arn(run_id))["status"] == "RUNNING"
    except ClientError as error:
        if error.response["Error"]["Code"] != "ExecutionDoesNotExist":
            raise
        return None


def _execution_arn(run_id: UUID) -> str:
    return f"{settings.run_machine_arn().replace(':stateMachine:', ':execution:')}:{run_id}"


def _client() -> "SFNClient":
    client: SFNClient = aws.client("stepfunctions")
    return client
