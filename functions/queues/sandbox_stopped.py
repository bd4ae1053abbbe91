"""ECS says that a sandbox's task has stopped: if we did not stop it, the sandbox is lost and whoever waits is told."""

import json
from typing import Any
from uuid import UUID

from aws_lambda_powertools.utilities.batch import BatchProcessor, EventType, process_partial_response
from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord
from aws_lambda_powertools.utilities.typing import LambdaContext

from shared.kernel import ids
from shared.kernel.caller import Caller
from shared.kernel.telemetry import invoked
from shared.sandboxes import service
from shared.sandboxes.model import StopReason

processor = BatchProcessor(event_type=EventType.SQS)


def stopped(record: SQSRecord) -> None:
    detail = json.loads(record.body)["detail"]
    environment = {
        item["name"]: item["value"]
        for override in detail["overrides"]["containerOverrides"]
        for item in override.get("environment", [])
    }
    service.end(
        Caller.system(UUID(detail["startedBy"])),
        ids.read("sbx", environment["SANDBOX_ID"]),
        reason=StopReason.LOST,
    )


@invoked
def handler(event: dict[str, Any], context: LambdaContext) -> Any:
    return process_partial_response(event, record_handler=stopped, processor=processor, context=context)
