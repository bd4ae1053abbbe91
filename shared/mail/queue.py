"""SQS: the queue of letters to be sent. A message holds ids only; whoever sends makes the secret and keeps its hash."""

import json
from functools import cache
from typing import TYPE_CHECKING
from uuid import UUID

from shared.kernel import aws, settings

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient


def _client() -> "SQSClient":
    client: SQSClient = aws.client("sqs")
    return client


@cache
def _url(name: str) -> str:
    return _client().get_queue_url(QueueName=name)["QueueUrl"]


def put(kind: str, *, owner: UUID, letter_id: UUID) -> None:
    """Ask for a letter: `owner` is the person or the org in whose rows it is found."""
    body = json.dumps({"kind": kind, "owner": str(owner), "id": str(letter_id)})
    _client().send_message(QueueUrl=_url(settings.mail_queue()), MessageBody=body)
