"""Fargate: starts and stops the tasks that are sandboxes."""

from typing import TYPE_CHECKING
from uuid import UUID

from botocore.exceptions import BotoCoreError, ClientError

from shared.kernel import aws, ids, settings
from shared.kernel.errors import Unavailable
from shared.sandboxes.model import Registration, SandboxStartFailed

if TYPE_CHECKING:
    from mypy_boto3_ecs import ECSClient

CONTAINER = "sandbox"


def run_task(*, org_id: UUID, sandbox_id: UUID, registration: Registration) -> str:
    """Start a task for this sandbox and return its ARN; raise `SandboxStartFailed`.

    The task's environment holds its id, its one-time token and where to register: nothing else of the platform's.
    """
    at = settings.sandboxes()
    client: ECSClient = aws.client("ecs")
    environment = {
        "SANDBOX_ID": ids.show("sbx", sandbox_id),
        "SANDBOX_REGISTRATION_TOKEN": registration.token,
        "RUNYARD_PLATFORM_URL": at.platform_url,
    }
    try:
        answer = client.run_task(
            cluster=at.cluster,
            taskDefinition=at.task_definition,
            launchType="FARGATE",
            count=1,
            startedBy=str(org_id),
            networkConfiguration={
                "awsvpcConfiguration": {
                    "subnets": list(at.subnets),
                    "securityGroups": [at.security_group] if at.security_group else [],
                    "assignPublicIp": "DISABLED",
                }
            },
            overrides={
                "containerOverrides": [
                    {
                        "name": CONTAINER,
                        "environment": [{"name": name, "value": value} for name, value in environment.items()],
                    }
                ]
            },
        )
    except (ClientError, BotoCoreError) as error:
        raise SandboxStartFailed("The sandbox's task could not be started.") from error
    if not answer["tasks"]:
        reasons = ", ".join(failure.get("reason", "unknown") for failure in answer.get("failures", []))
        raise SandboxStartFailed(f"The sandbox's task could not be started: {reasons}.")
    return answer["tasks"][0]["taskArn"]


def stop_task(task_arn: str, *, reason: str) -> None:
    """Stop a task; one that is gone already is fine."""
    client: ECSClient = aws.client("ecs")
    try:
        client.stop_task(cluster=settings.sandboxes().cluster, task=task_arn, reason=reason)
    except ClientError as error:
        if error.response["Error"]["Code"] != "InvalidParameterException":
            raise Unavailable("The sandbox's task could not be stopped just now.") from error
    except BotoCoreError as error:
        raise Unavailable("The sandbox's task could not be stopped just now.") from error
