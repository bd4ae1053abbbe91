"""Sends letters that were asked for: to people, and invitations to orgs."""

import json
from collections.abc import Callable, Mapping
from typing import Any
from uuid import UUID

from aws_lambda_powertools.utilities.batch import BatchProcessor, EventType, process_partial_response
from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord
from aws_lambda_powertools.utilities.typing import LambdaContext

from shared.kernel.telemetry import invoked
from shared.orgs import service as orgs
from shared.people import service as people

processor = BatchProcessor(event_type=EventType.SQS)


def letter(owner: UUID, letter_id: UUID) -> None:
    people.send_letter(owner, letter_id)


def invitation(owner: UUID, letter_id: UUID) -> None:
    orgs.send_invitation(owner, letter_id)


SENDERS: Mapping[str, Callable[[UUID, UUID], None]] = {"letter": letter, "invitation": invitation}


def asked_for(record: SQSRecord) -> None:
    asked = json.loads(record.body)
    SENDERS[asked["kind"]](UUID(asked["owner"]), UUID(asked["id"]))


@invoked
def handler(event: dict[str, Any], context: LambdaContext) -> Any:
    return process_partial_response(event, record_handler=asked_for, processor=processor, context=context)
