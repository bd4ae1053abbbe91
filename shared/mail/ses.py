"""SES: sends one letter as plain text."""

from typing import TYPE_CHECKING

from shared.kernel import aws, settings

if TYPE_CHECKING:
    from mypy_boto3_sesv2 import SESV2Client


def send(*, to: str, subject: str, text: str) -> None:
    """Send a letter from the platform's address; botocore's errors pass, so that the queue tries again."""
    client: SESV2Client = aws.client("sesv2")
    client.send_email(
        FromEmailAddress=settings.mail_from(),
        Destination={"ToAddresses": [to]},
        Content={
            "Simple": {
                "Subject": {"Data": subject, "Charset": "UTF-8"},
                "Body": {"Text": {"Data": text, "Charset": "UTF-8"}},
            }
        },
    )
