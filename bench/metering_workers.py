"""The workers of `bench.metering`: what Lambda's poller does with the function of the queue, in a process each."""

import os
import sys
from typing import Any

from functions.queues import record_usage
from shared.kernel import aws
from tests.api_gateway import Context

_BATCH = 10


def work(queue_url: str, stop: Any) -> None:
    """Take batches, hand them to the function and delete what succeeded, until `stop` is set."""
    # The function's log lines are written, to nowhere.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sqs = aws.client("sqs")
    while not stop.is_set():
        answer = sqs.receive_message(QueueUrl=queue_url, MaxNumberOfMessages=_BATCH, WaitTimeSeconds=1)
        messages = answer.get("Messages", [])
        if not messages:
            continue
        failed = record_usage.handler({"Records": [_record(message) for message in messages]}, Context())
        kept = {failure["itemIdentifier"] for failure in failed["batchItemFailures"]}
        done = [message for message in messages if message["MessageId"] not in kept]
        if done:
            sqs.delete_message_batch(
                QueueUrl=queue_url,
                Entries=[
                    {"Id": str(number), "ReceiptHandle": message["ReceiptHandle"]}
                    for number, message in enumerate(done)
                ],
            )


def _record(message: dict[str, Any]) -> dict[str, Any]:
    return {
        "messageId": message["MessageId"],
        "receiptHandle": message["ReceiptHandle"],
        "body": message["Body"],
        "attributes": {},
        "messageAttributes": {},
        "md5OfBody": message["MD5OfBody"],
        "eventSource": "aws:sqs",
        "eventSourceARN": "arn:aws:sqs:us-east-1:000000000000:usage",
        "awsRegion": "us-east-1",
    }
