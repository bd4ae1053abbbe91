"""Step Functions: wakes the run that waits for a sandbox."""

import json
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from shared.kernel import aws

if TYPE_CHECKING:
    from mypy_boto3_stepfunctions import SFNClient

# The wait is over already: answered before, timed out, or its run was stopped.
_OVER = {"TaskTimedOut", "TaskDoesNotExist", "InvalidToken"}


def wake(token: str, output: dict[str, str]) -> None:
    """Let the waiting state succeed; doing so again does nothing."""
    client: SFNClient = aws.client("stepfunctions")
    try:
        client.send_task_success(taskToken=token, output=json.dumps(output))
    except ClientError as error:
        if error.response["Error"]["Code"] not in _OVER:
            raise


def fail(token: str, *, error_name: str, cause: str) -> None:
    """Let the waiting state fail; doing so again does nothing."""
    client: SFNClient = aws.client("stepfunctions")
    try:
        client.send_task_failure(taskToken=token, error=error_name, cause=cause)
    except ClientError as error:
        if error.response["Error"]["Code"] not in _OVER:
            raise
