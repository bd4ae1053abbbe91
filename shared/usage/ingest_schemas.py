"""What is metered elsewhere and told to us: as the API takes it, and as it lies on the queue."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Annotated, Literal, Self
from uuid import UUID

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from shared.kernel import clock, ids
from shared.kernel.fields import Input, OrgId, Output
from shared.usage.model import BadUsageMessage, Metered, UsageKind

MAX_EVENTS = 500
# Clocks differ; beyond this, one of them is wrong.
_AHEAD = timedelta(minutes=5)
# Later than any queue keeps a message, and early enough to mend a month's invoice.
_BEHIND = timedelta(days=35)
# Above a petabyte held for an hour; its cost still fits the ledger at any price in the book.
_MOST = 10**16
# What Postgres can't store is refused here, so that no message is tried again in vain.
_Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
_Text = Annotated[str, Field(max_length=200, pattern=r"^[^\x00]*$")]


def _recent(moment: datetime) -> datetime:
    now = clock.now()
    if not now - _BEHIND <= moment <= now + _AHEAD:
        raise ValueError(
            f"It must be within the last {_BEHIND.days} days and at most {_AHEAD.seconds // 60} minutes ahead."
        )
    return moment


Occurred = Annotated[AwareDatetime, AfterValidator(_recent)]


class MeteredIn(BaseModel):
    """One measurement. Its cause and kind together count once, however often they are sent."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "kind": "call_seconds",
                    "quantity": 61,
                    "source_id": "call:2026-11-21-0042",
                    "dimensions": {"agent_id": "agent_01h455vb4pex5vsknk084sn02q"},
                }
            ]
        },
    )

    kind: UsageKind
    quantity: Annotated[int, Field(strict=True, ge=0, le=_MOST, description="How many of the kind's unit.")]
    source_id: Annotated[
        str, Field(min_length=1, max_length=200, pattern=r"^[^\x00]*$", description="Your name of what caused it.")
    ]
    occurred_at: Annotated[Occurred | None, Field(description="By when it is priced. Default: now.")] = None
    dimensions: Annotated[
        dict[_Name, _Text],
        Field(
            max_length=16,
            description="What it can be told apart by. Tokens need `model`; sandbox seconds need `cpu_units` and "
            "`memory_mib`; `agent_id`, `person_id` and `key_id` say whose use it is.",
        ),
    ] = {}

    def metered(self, occurred_at: datetime) -> Metered:
        return Metered(self.kind, self.quantity, self.source_id, occurred_at, self.dimensions)


class MeteredOnQueue(MeteredIn):
    """One measurement on the queue, which knows when it was made."""

    occurred_at: Occurred


class RecordUsage(Input):
    org_id: Annotated[OrgId, Field(description="Whose use it is.")]
    events: Annotated[list[MeteredIn], Field(min_length=1, max_length=MAX_EVENTS)]

    def at(self, now: datetime) -> list[Metered]:
        """Return the measurements, those without a moment as of now."""
        return [event.metered(event.occurred_at or now) for event in self.events]


class UsageMessage(BaseModel):
    """A message of the queue: measurements of one org."""

    model_config = ConfigDict(extra="forbid")

    org_id: OrgId
    events: Annotated[list[MeteredOnQueue], Field(min_length=1, max_length=MAX_EVENTS)]

    @classmethod
    def read(cls, body: str) -> Self:
        """Return the message; raise `BadUsageMessage`, which names the place and repeats nothing of the content."""
        try:
            return cls.model_validate_json(body)
        except (ValidationError, UnicodeEncodeError) as error:
            raise BadUsageMessage(_fault(error)) from None

    def metered(self) -> list[Metered]:
        return [event.metered(event.occurred_at) for event in self.events]

    @staticmethod
    def write(org_id: UUID, events: Sequence[Metered]) -> list[str]:
        """Return as few messages as hold these events, each of a size that SQS takes."""
        head, tail = f'{{"org_id":"{ids.show("org", org_id)}","events":[', "]}"
        bodies: list[str] = []
        held: list[str] = []
        size = 0
        for event in events:
            # ASCII throughout: as many bytes as characters.
            text = json.dumps(asdict(event) | {"occurred_at": event.occurred_at.isoformat()})
            if held and (len(held) == MAX_EVENTS or size + len(text) > _MAX_BYTES):
                bodies.append(head + ",".join(held) + tail)
                held, size = [], 0
            held.append(text)
            size += len(text) + 1
        return [*bodies, head + ",".join(held) + tail] if held else bodies


# SQS takes 262,144 bytes everywhere; the rest is room for the org and the brackets.
_MAX_BYTES = 260_000


class UsageAcceptedOut(Output):
    """The events are on their way to the ledger; there they count once."""

    object: Literal["usage_accepted"] = "usage_accepted"
    events: int


def _fault(error: ValidationError | UnicodeEncodeError) -> str:
    if isinstance(error, UnicodeEncodeError):
        return "body: not valid Unicode"
    fault = error.errors(include_url=False, include_input=False, include_context=False)[0]
    place = ".".join(str(part)[:64] for part in fault["loc"])
    return f"{place or 'body'}: {fault['type']}"
