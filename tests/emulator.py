"""The real emulator in tests: KMS, SQS and SES as functions at home find them."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import boto3
import httpx

from shared.kernel import settings


@dataclass
class Emulator:
    """A running emulator with a key, a queue of letters and a verified sender."""

    url: str
    # When the present test began.
    _since: float = 0

    @cached_property
    def identity_key_arn(self) -> str:
        return str(self.client("kms").create_key()["KeyMetadata"]["Arn"])

    def client(self, service: str) -> Any:
        keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
        return boto3.client(service, endpoint_url=self.url, region_name="us-east-1", **keys)  # type: ignore[call-overload]

    def prepare(self, *, queues: Sequence[str], sender: str) -> None:
        """Make the queues, empty, and the verified sender; forget what was sent before."""
        self._since = time.time()
        sqs = self.client("sqs")
        for queue in queues:
            sqs.purge_queue(QueueUrl=sqs.create_queue(QueueName=queue)["QueueUrl"])
        self.client("sesv2").create_email_identity(EmailIdentity=sender)

    def letters_asked_for(self) -> list[dict[str, Any]]:
        """Take what lies in the queue of letters, as the consumer's Lambda would be given it: SQS records."""
        return self._taken(settings.mail_queue())

    def usage_to_record(self) -> list[dict[str, Any]]:
        """Take what lies in the queue of usage, as SQS records."""
        return self._taken(settings.usage_queue())

    def _taken(self, queue: str) -> list[dict[str, Any]]:
        sqs = self.client("sqs")
        url = sqs.get_queue_url(QueueName=queue)["QueueUrl"]
        records: list[dict[str, Any]] = []
        while messages := sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", []):
            for message in messages:
                sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
                records.append(
                    {"messageId": message["MessageId"], "body": message["Body"], "eventSource": "aws:sqs"}
                    | {"receiptHandle": "x", "attributes": {}, "messageAttributes": {}, "awsRegion": "us-east-1"}
                    | {"md5OfBody": "", "eventSourceARN": f"arn:aws:sqs:us-east-1:000000000000:{queue}"}
                )
        return records

    def sent_mail(self, to: str | None = None) -> list[dict[str, Any]]:
        """Return the mail sent in this test, oldest first, as the emulator recorded it: `To`, `Subject`, `BodyText`, …

        Given an address, return only what was sent there.
        """
        answer = httpx.get(f"{self.url}/_ministack/ses/messages", timeout=5, trust_env=False)
        of_accounts: dict[str, list[dict[str, Any]]] = answer.json()["messages"]
        found = [mail for mails in of_accounts.values() for mail in mails if mail["Timestamp"] >= self._since]
        return [mail for mail in sorted(found, key=_moment) if to is None or to in mail["To"]]


def _moment(mail: dict[str, Any]) -> float:
    return float(mail["Timestamp"])
