"""A queue that loses nothing: encrypted, TLS only, with a dead-letter queue kept for two weeks."""

from aws_cdk import Duration
from aws_cdk import aws_sqs as sqs
from constructs import Construct

_ATTEMPTS = 5


class DeadLetterQueue(sqs.Queue):
    """Where what failed for good waits for a person; an alarm watches every one of them."""

    def __init__(self, scope: Construct, construct_id: str, *, name: str) -> None:
        super().__init__(
            scope,
            construct_id,
            queue_name=name,
            encryption=sqs.QueueEncryption.SQS_MANAGED,
            enforce_ssl=True,
            retention_period=Duration.days(14),
        )
        self.name = name


class DurableQueue(Construct):
    """A queue and its dead-letter queue, sized for the function that reads it."""

    def __init__(self, scope: Construct, construct_id: str, *, name: str, consumer_timeout_s: int) -> None:
        super().__init__(scope, construct_id)
        self.dead_letters = DeadLetterQueue(self, "DeadLetters", name=f"{name}-dead")
        self.queue = sqs.Queue(
            self,
            "Queue",
            queue_name=name,
            encryption=sqs.QueueEncryption.SQS_MANAGED,
            enforce_ssl=True,
            # Six times the consumer's time-out, as Lambda asks for: room for its own retries when it is throttled.
            visibility_timeout=Duration.seconds(6 * consumer_timeout_s),
            retention_period=Duration.days(4),
            dead_letter_queue=sqs.DeadLetterQueue(queue=self.dead_letters, max_receive_count=_ATTEMPTS),
        )
