"""EventBridge: our bus, in batches as it takes them."""

import json
from typing import TYPE_CHECKING

from shared.events.model import OutboxEvent
from shared.kernel import aws, ids, settings
from shared.kernel.errors import Unavailable

if TYPE_CHECKING:
    from mypy_boto3_events import EventBridgeClient

# PutEvents takes at most ten entries a call.
BATCH = 10
SOURCE = "runyard"


def put(events: list[OutboxEvent]) -> None:
    """Put up to ten events on the bus; raise `Unavailable` unless all of them were taken."""
    client: EventBridgeClient = aws.client("events")
    answer = client.put_events(
        Entries=[
            {
                "EventBusName": settings.event_bus(),
                "Source": SOURCE,
                "DetailType": event.type,
                "Time": event.created_at,
                "Detail": json.dumps(
                    {
                        "id": ids.show("event", event.id),
                        "org_id": ids.show("org", event.org_id),
                        "subject": event.subject,
                        "data": event.data,
                    }
                ),
            }
            for event in events
        ]
    )
    if answer["FailedEntryCount"]:
        raise Unavailable("The event bus refused events; the relay tries them again.")
