"""Meters what was measured elsewhere: each message is one org's, and one transaction of claims, events and charge."""

from typing import Any

from aws_lambda_powertools.utilities.batch import BatchProcessor, EventType, process_partial_response
from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord
from aws_lambda_powertools.utilities.typing import LambdaContext

from shared.billing import service as billing
from shared.kernel import db
from shared.kernel.caller import Caller
from shared.kernel.errors import RunyardError
from shared.kernel.telemetry import invoked, logger
from shared.orgs import service as orgs
from shared.usage.ingest_schemas import UsageMessage

processor = BatchProcessor(event_type=EventType.SQS, raise_on_entire_batch_failure=False)


def used(record: SQSRecord) -> None:
    try:
        message = UsageMessage.read(record.body)
        caller = Caller.system(message.org_id)
        with db.tenant(caller) as tx:
            orgs.get_org(tx, message.org_id)
            billing.meter(tx, caller, message.metered())
    except RunyardError as error:
        # Left to the queue: what passes is tried again, what doesn't ends among the dead letters.
        logger.error("usage not recorded", extra={"message_id": record.message_id, "code": error.code})
        raise


@invoked
def handler(event: dict[str, Any], context: LambdaContext) -> Any:
    return process_partial_response(event, record_handler=used, processor=processor, context=context)
