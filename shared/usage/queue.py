"""SQS: the queue of usage that was measured elsewhere. What is on it is counted once, however often it is sent."""

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

from shared.kernel import aws, settings
from shared.kernel.errors import Unavailable

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient


def _client() -> "SQSClient":
    client: SQSClient = aws.client("sqs")
    return client


@cache
def _url(name: str) -> str:
    return _client().get_queue_url(QueueName=name)["QueueUrl"]


def put(bodies: Sequence[str]) -> None:
    """Put these messages on the queue; raise `Unavailable` when it didn't take all: then send all of them again."""
    # Everybody who records usage imports this module; hardly anybody puts something on the queue.
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        for body in bodies:
            _client().send_message(QueueUrl=_url(settings.usage_queue()), MessageBody=body)
    except (ClientError, BotoCoreError) as error:
        raise Unavailable("Usage can't be taken at the moment; send it again.", retry_after_s=1) from error
