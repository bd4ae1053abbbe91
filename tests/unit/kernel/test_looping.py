"""Synchronous code waits for work on the loop of its worker: one loop, whoever asks."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from shared.kernel import looping


async def _which() -> tuple[int, str]:
    await asyncio.sleep(0)
    return id(asyncio.get_running_loop()), threading.current_thread().name


def test_every_thread_finds_the_same_loop_in_a_thread_of_its_own() -> None:
    with ThreadPoolExecutor(8) as threads:
        found = set(threads.map(lambda _: looping.run(_which()), range(32)))

    assert len(found) == 1
    assert threading.current_thread().name not in {name for _, name in found}


def test_work_of_several_threads_runs_at_once() -> None:
    arrived = threading.Barrier(4, timeout=30)

    async def meet() -> int:
        return await asyncio.to_thread(arrived.wait)

    with ThreadPoolExecutor(4) as threads:
        assert sorted(threads.map(lambda _: looping.run(meet()), range(4))) == [0, 1, 2, 3]


def test_an_error_reaches_whoever_waits() -> None:
    async def fail() -> None:
        raise LookupError("gone")

    with pytest.raises(LookupError, match="gone"):
        looping.run(fail())
