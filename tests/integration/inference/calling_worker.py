"""A worker of its own, with its own pool and event loop, that makes model calls as others do at the same time."""

import asyncio
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from shared.inference.errors import BudgetExceeded
from shared.kernel import settings
from shared.kernel.caller import Caller
from shared.kernel.errors import InsufficientCredits
from tests.integration.inference.calling import Attempt
from tests.nursery import Pipe


@dataclass(frozen=True)
class Task:
    """`calls` at the same moment, each of which costs `cost` of the `most` that is held for it and takes `takes_s`."""

    caller: Caller
    calls: int
    most: int
    cost: int
    wait_s: float
    takes_s: float = 0.0
    pays: bool = True


async def make(task: Task) -> list[str]:
    """Return for each call `ok`, or the code it was refused with."""

    async def one() -> str:
        attempt = Attempt(caller=task.caller, most=task.most, wait_s=task.wait_s, pays=task.pays)
        try:
            await attempt.open()
        except (BudgetExceeded, InsufficientCredits) as refusal:
            return refusal.code
        await asyncio.sleep(task.takes_s)
        await attempt.close(task.cost)
        return "ok"

    return await asyncio.gather(*[one() for _ in range(task.calls)])


def serve(environment: Mapping[str, str], pipe: Pipe) -> None:
    """Make the calls of each task that comes, and tell how they went."""
    os.environ.update(environment)
    settings.forget()
    for task in iter(pipe.recv, None):
        pipe.send(asyncio.run(make(task)))


def open_and_hang(environment: Mapping[str, str], attempts: Sequence[Attempt], pipe: Pipe) -> None:
    """Open calls and never close them."""
    os.environ.update(environment)
    settings.forget()

    async def work() -> None:
        await asyncio.gather(*[attempt.open() for attempt in attempts])
        pipe.send("opened")
        await asyncio.sleep(60)

    asyncio.run(work())
