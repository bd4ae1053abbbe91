"""EventBridge: our bus, in batches as it takes them."""

import json
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from shared.events.model import OutboxEvent
from shared.kernel import aws, ids, settings
from shared.kernel.errors import Unavailable

if TYPE_CHECKING:
    from mypy_boto3_events import EventBridgeClient
    from mypy_boto3_events.type_defs import PutEventsRequestEntryTypeDef

# PutEvents takes at most ten entries a call.
BATCH = 10
SOURCE = "runyard"


def put(events: list[OutboxEvent]) -> None:
    """Put up to ten events on the bus; raise `Unavailable` unless all of them were taken."""
    client: EventBridgeClient = aws.client("events")
    entries: list[PutEventsRequestEntryTypeDef] = [
        {
            "EventBusName": settings.event_bus(),
            "Source": SOURCE,
            "DetailType": event.type,
            "Time": event.created_at,
            "Detail": json.dumps(_detail(event)),
        }
        for event in events
    ]
    try:
        answer = client.put_events(Entries=entries)
    except (ClientError, BotoCoreError) as error:
        raise Unavailable("The event bus can't be reached; the relay tries again.") from error
    if answer["FailedEntryCount"]:
        raise Unavailable("The event bus refused events; the relay tries them again.")


def _detail(event: OutboxEvent) -> dict[str, Any]:
    return {
        "id": ids.show("event", event.id),
        "org_id": ids.show("org", event.org_id),
        "subject": event.subject,
        "data": event.data,
    }
