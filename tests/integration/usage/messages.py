"""Messages of metered usage in tests: made as they lie on the queue, and handed over as Lambda does."""

from datetime import timedelta
from typing import Any

from functions.queues import record_usage
from shared.billing import service as billing
from shared.kernel import clock, db
from shared.kernel.caller import Caller
from shared.usage import service as usage
from tests.api_gateway import Context
from tests.unit.usage.malformed import event as event
from tests.unit.usage.malformed import message as message

CREDITS = 1_000_000_000


def records(*bodies: str) -> list[dict[str, Any]]:
    """SQS records with these bodies; each one's id is its number."""
    common = {"receiptHandle": "x", "attributes": {}, "messageAttributes": {}, "awsRegion": "us-east-1"}
    common |= {"md5OfBody": "", "eventSource": "aws:sqs", "eventSourceARN": "arn:aws:sqs:us-east-1:0:usage"}
    return [{"messageId": str(number), "body": body} | common for number, body in enumerate(bodies)]


def deliver(*bodies: str) -> set[int]:
    """Hand the function one batch; return the numbers of the messages that it leaves on the queue."""
    answer = record_usage.handler({"Records": records(*bodies)}, Context())
    return {int(failure["itemIdentifier"]) for failure in answer["batchItemFailures"]}


def furnished(caller: Caller) -> Caller:
    """The same caller, with credits."""
    with db.tenant(caller) as tx:
        billing.grant(tx, caller, amount_microusd=CREDITS, source_id="test", reason="to test with")
    return caller


def counted(caller: Caller) -> tuple[int, int]:
    """Return the quantity and cost of all usage of the last days, after having compared it with what was charged."""
    now = clock.now()
    with db.tenant(caller) as tx:
        totals = usage.summary(tx, since=now - timedelta(days=40), until=now + timedelta(days=1))
        balance = billing.balance(tx)
        assert billing.check(tx) == []
    cost = sum(total.cost_microusd for total in totals)
    assert balance.settled_microusd + balance.owed_microusd == cost
    return sum(total.quantity for total in totals), cost
