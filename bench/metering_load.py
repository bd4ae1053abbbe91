"""The load of `bench.metering`: messages of usage at a steady rate, and what they must come to."""

import json
import random
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import count
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Self
from uuid import UUID

from shared.billing import service as billing
from shared.kernel import aws, ids
from shared.usage.model import UsageKind

_MODELS = ("gpt-5-mini", "gpt-5")
_SMALLEST, _LARGEST = 250, 500
_DUPLICATES = 0.05
# A message that comes again does so within the next few.
_WITHIN = 40
# Events that come again in another message are chosen among so many of their org's latest.
_REMEMBERED = 2_000
_SIZE = {"cpu_units": "256", "memory_mib": "512", "template": "python"}
_MOMENTS = 500

type Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Made:
    """What was sent: each event once in `sums` (events, quantity, cost), those that came again in `duplicates`."""

    sums: Mapping[Key, tuple[int, int, int]]
    events: int
    duplicates: int
    messages: int
    seconds: float
    cpu_s: float

    def write(self, file: Path) -> None:
        rows = [[*key, *sums] for key, sums in self.sums.items()]
        figures = [self.events, self.duplicates, self.messages, self.seconds, self.cpu_s]
        file.write_text(json.dumps([rows, figures]))

    @classmethod
    def read(cls, file: Path) -> Self:
        rows, figures = json.loads(file.read_text())
        return cls({(org, kind): tuple(sums) for org, kind, *sums in rows}, *figures)


@dataclass(frozen=True, slots=True)
class _Event:
    kind: UsageKind
    quantity: int
    dimensions: Mapping[str, str]
    text: str


class Load:
    """Makes messages, and keeps count of what is in them."""

    def __init__(self, org_ids: list[UUID], *, seed: int, now: datetime) -> None:
        self._random = random.Random(seed)
        self._orgs = org_ids
        self._now = now
        self._numbers = count(1)
        self._recent: dict[UUID, list[_Event]] = {org_id: [] for org_id in org_ids}
        self._again: list[tuple[int, str, int]] = []
        self._events: Counter[Key] = Counter()
        self._quantity: Counter[Key] = Counter()
        self._cost: Counter[Key] = Counter()
        # Made once: what is measured is who meters, not who writes moments down.
        self._moments = [
            (now - timedelta(seconds=self._random.randrange(2 * 86_400))).isoformat() for _ in range(_MOMENTS)
        ]
        self._people = {
            org_id: [(ids.show("agent", ids.new()), ids.show("key", ids.new())) for _ in range(20)]
            for org_id in org_ids
        }
        self.events = self.duplicates = self.messages = 0

    def bodies(self) -> Iterator[tuple[int, str]]:
        """Yield messages without end, each with how many new events it holds."""
        while True:
            self.messages += 1
            due = [each for each in self._again if each[0] <= self.messages]
            if due:
                self._again.remove(due[0])
                self.duplicates += due[0][2]
                yield 0, due[0][1]
                continue
            new, events = self._message(self._random.choice(self._orgs))
            yield new, events

    def rest(self) -> list[str]:
        """Return the messages that were still to come again."""
        rest = [body for _, body, _ in self._again]
        self.duplicates += sum(events for *_, events in self._again)
        self.messages += len(rest)
        self._again = []
        return rest

    def sums(self) -> dict[Key, tuple[int, int, int]]:
        return {key: (self._events[key], self._quantity[key], self._cost[key]) for key in self._events}

    def _message(self, org_id: UUID) -> tuple[int, str]:
        size = self._random.randint(_SMALLEST, _LARGEST)
        recent = self._recent[org_id]
        # Half of the duplicates come with their message, half are such as these.
        again = min(len(recent), round(size * _DUPLICATES / 2))
        fresh = [self._event(org_id) for _ in range(size - again)]
        events = fresh + self._random.sample(recent, again)
        self._random.shuffle(events)
        self.events += len(fresh)
        self.duplicates += again
        recent += fresh
        del recent[:-_REMEMBERED]
        body = f'{{"org_id":"{ids.show("org", org_id)}","events":[{",".join(event.text for event in events)}]}}'
        if self._random.random() < _DUPLICATES / 2:
            self._again.append((self.messages + self._random.randint(1, _WITHIN), body, len(events)))
        return len(fresh), body

    def _event(self, org_id: UUID) -> _Event:
        chance = self._random
        kind = chance.choice(_KINDS)
        dimensions = _dimensions(kind, chance.randrange(len(_MODELS)))
        quantity = chance.randint(1, 5_000)
        agent, key = chance.choice(self._people[org_id])
        named = ",".join(f'"{name}":"{value}"' for name, value in dimensions.items())
        text = (
            f'{{"kind":"{kind}","quantity":{quantity},"source_id":"bench:{next(self._numbers)}",'
            f'"occurred_at":"{chance.choice(self._moments)}",'
            f'"dimensions":{{"agent_id":"{agent}","key_id":"{key}"{"," if named else ""}{named}}}}}'
        )
        place = (str(org_id), kind.value)
        self._events[place] += 1
        self._quantity[place] += quantity
        self._cost[place] += _cost(kind, quantity, tuple(dimensions.items()), self._now)
        return _Event(kind, quantity, dimensions, text)


_KINDS = (
    UsageKind.TOKENS_INPUT,
    UsageKind.TOKENS_CACHED,
    UsageKind.TOKENS_OUTPUT,
    UsageKind.SANDBOX_SECONDS,
    UsageKind.CALL_SECONDS,
    UsageKind.STORAGE_BYTE_HOURS,
    UsageKind.MEMORY_OPERATIONS,
    UsageKind.API_CALLS,
)


@cache
def _dimensions(kind: UsageKind, model: int) -> dict[str, str]:
    if kind in (UsageKind.TOKENS_INPUT, UsageKind.TOKENS_CACHED, UsageKind.TOKENS_OUTPUT):
        return {"model": _MODELS[model]}
    return _SIZE if kind is UsageKind.SANDBOX_SECONDS else {}


@cache
def _cost(kind: UsageKind, quantity: int, dimensions: tuple[tuple[str, str], ...], at: datetime) -> int:
    return billing.price_of(kind, quantity, dict(dimensions), at=at).cost_microusd


def produce(queue_url: str, org_ids: list[UUID], rate: int, seconds: float, seed: int, file: str, begun: Event) -> None:
    """Send as many new events in a second as `rate` says, for `seconds`; write down what they come to."""
    load = Load(org_ids, seed=seed, now=datetime.now(UTC))
    sqs = aws.client("sqs")
    sqs.get_queue_attributes(QueueUrl=queue_url)
    begun.set()
    began = time.monotonic()
    sent = 0
    for new, body in load.bodies():
        # Later than planned it sends at once, until it has caught up.
        time.sleep(max(0.0, began + sent / rate - time.monotonic()))
        sqs.send_message(QueueUrl=queue_url, MessageBody=body)
        sent += new
        if sent >= rate * seconds:
            break
    for body in load.rest():
        sqs.send_message(QueueUrl=queue_url, MessageBody=body)
    elapsed = time.monotonic() - began
    Made(load.sums(), load.events, load.duplicates, load.messages, elapsed, time.process_time()).write(Path(file))
