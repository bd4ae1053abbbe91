"""Starts the execution of every run that was requested: the second leg, should the API have died after its commit."""

import json
from typing import Any

from aws_lambda_powertools.utilities.batch import BatchProcessor, EventType, process_partial_response
from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord
from aws_lambda_powertools.utilities.typing import LambdaContext

from shared.kernel import ids
from shared.kernel.caller import Caller
from shared.kernel.telemetry import invoked
from shared.runs import service

processor = BatchProcessor(event_type=EventType.SQS)


def requested(record: SQSRecord) -> None:
    detail = json.loads(record.body)["detail"]
    service.start(Caller.system(ids.read("org", detail["org_id"])), ids.read("run", detail["subject"]))


@invoked
def handler(event: dict[str, Any], context: LambdaContext) -> Any:
    return process_partial_response(event, record_handler=requested, processor=processor, context=context)
