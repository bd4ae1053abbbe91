"""Items of one lane go together, in order, and whoever asked gets its own outcome."""

import asyncio
import threading
from collections.abc import Hashable

import pytest

from shared.kernel.batching import Batcher


class Bakery:
    """Work that takes as long as the test wants, and remembers its batches."""

    def __init__(self) -> None:
        self.batches: list[tuple[Hashable, list[str]]] = []
        self.open = threading.Event()
        self.begun = threading.Semaphore(0)
        self.poison = ""

    def bake(self, lane: Hashable, items: list[str]) -> list[str | Exception]:
        self.batches.append((lane, items))
        self.begun.release()
        assert self.open.wait(30)
        if self.poison in items:
            raise RuntimeError(f"{self.poison} is poison")
        return [ValueError(item) if item.startswith("bad") else f"{lane}:{item}" for item in items]

    async def has_begun(self) -> None:
        assert await asyncio.to_thread(self.begun.acquire, timeout=30)


def test_what_comes_while_a_batch_is_under_way_goes_together_in_the_next() -> None:
    bakery = Bakery()
    batcher: Batcher[str, str] = Batcher("test", bakery.bake)

    async def work() -> list[str]:
        first = asyncio.create_task(batcher.do("a", "1"))
        await bakery.has_begun()
        rest = [asyncio.create_task(batcher.do("a", str(n))) for n in range(2, 6)]
        await asyncio.sleep(0)
        bakery.open.set()
        return [await first, *[await each for each in rest]]

    assert asyncio.run(work()) == [f"a:{n}" for n in range(1, 6)]
    assert bakery.batches == [("a", ["1"]), ("a", ["2", "3", "4", "5"])]


def test_a_batch_holds_no_more_than_it_may() -> None:
    bakery = Bakery()
    batcher: Batcher[str, str] = Batcher("test", bakery.bake, at_most=3)

    async def work() -> None:
        waiting = [asyncio.create_task(batcher.do("a", str(n))) for n in range(8)]
        await bakery.has_begun()
        bakery.open.set()
        await asyncio.gather(*waiting)

    asyncio.run(work())
    assert max(len(items) for _, items in bakery.batches) == 3
    assert [item for _, items in bakery.batches for item in items] == [str(n) for n in range(8)]


def test_lanes_do_not_wait_for_each_other_and_one_lane_is_never_in_two_batches_at_once() -> None:
    bakery = Bakery()
    batcher: Batcher[str, str] = Batcher("test", bakery.bake, threads=2)

    async def work() -> list[str]:
        waiting = [asyncio.create_task(batcher.do(lane, "1")) for lane in ("a", "b")]
        await bakery.has_begun()
        await bakery.has_begun()
        waiting.append(asyncio.create_task(batcher.do("a", "2")))
        await asyncio.sleep(0.05)
        assert len(bakery.batches) == 2
        bakery.open.set()
        return await asyncio.gather(*waiting)

    assert asyncio.run(work()) == ["a:1", "b:1", "a:2"]


def test_more_lanes_than_threads_take_turns() -> None:
    bakery = Bakery()
    bakery.open.set()
    batcher: Batcher[str, str] = Batcher("test", bakery.bake, threads=2)

    async def work() -> list[str]:
        return await asyncio.gather(*[batcher.do(lane, str(n)) for n in range(5) for lane in "abcdefg"])

    assert sorted(asyncio.run(work())) == sorted(f"{lane}:{n}" for n in range(5) for lane in "abcdefg")


def test_an_outcome_that_is_an_error_is_raised_to_its_caller_alone() -> None:
    bakery = Bakery()
    bakery.open.set()
    batcher: Batcher[str, str] = Batcher("test", bakery.bake)

    async def work() -> list[object]:
        return await asyncio.gather(*[batcher.do("a", item) for item in ("1", "bad", "3")], return_exceptions=True)

    first, second, third = asyncio.run(work())
    assert [first, third] == ["a:1", "a:3"]
    assert isinstance(second, ValueError)


def test_a_poisoned_item_does_not_fail_its_neighbours() -> None:
    bakery = Bakery()
    bakery.poison = "3"
    batcher: Batcher[str, str] = Batcher("test", bakery.bake)

    async def work() -> list[object]:
        waiting = [asyncio.create_task(batcher.do("a", "0"))]
        await bakery.has_begun()
        waiting += [asyncio.create_task(batcher.do("a", str(n))) for n in range(1, 5)]
        await asyncio.sleep(0)
        bakery.open.set()
        return await asyncio.gather(*waiting, return_exceptions=True)

    outcomes = asyncio.run(work())
    assert [str(outcome) for outcome in outcomes] == ["a:0", "a:1", "a:2", "3 is poison", "a:4"]
    assert isinstance(outcomes[3], RuntimeError)


def test_work_that_forgets_an_outcome_is_found_out() -> None:
    batcher: Batcher[str, str] = Batcher("test", lambda _lane, _items: [])
    with pytest.raises(RuntimeError, match="0 outcomes for 1 items"):
        asyncio.run(batcher.do("a", "1"))


@pytest.mark.parametrize("needed", [False, True], ids=["left out", "needed"])
def test_an_item_whose_caller_is_cancelled_before_its_batch_is_left_out_unless_needed(needed: bool) -> None:
    bakery = Bakery()
    batcher: Batcher[str, str] = Batcher("test", bakery.bake)

    async def work() -> None:
        first = asyncio.create_task(batcher.do("a", "1"))
        await bakery.has_begun()
        second = asyncio.create_task(batcher.do("a", "2", needed=needed))
        third = asyncio.create_task(batcher.do("a", "3"))
        await asyncio.sleep(0)
        second.cancel()
        await asyncio.sleep(0)
        bakery.open.set()
        assert [*await asyncio.gather(first, third)] == ["a:1", "a:3"]

    asyncio.run(work())
    assert bakery.batches[1][1] == (["2", "3"] if needed else ["3"])


def test_an_item_that_has_begun_is_done_although_its_caller_is_cancelled() -> None:
    bakery = Bakery()
    batcher: Batcher[str, str] = Batcher("test", bakery.bake)

    async def work() -> str:
        first = asyncio.create_task(batcher.do("a", "1"))
        await bakery.has_begun()
        first.cancel()
        bakery.open.set()
        return await batcher.do("a", "2")

    assert asyncio.run(work()) == "a:2"
    assert [items for _, items in bakery.batches] == [["1"], ["2"]]


def test_an_item_that_nobody_waits_for_is_done_after_what_its_lane_holds() -> None:
    bakery = Bakery()
    batcher: Batcher[str, str] = Batcher("test", bakery.bake)

    async def work() -> None:
        first = asyncio.create_task(batcher.do("a", "1"))
        await bakery.has_begun()
        batcher.put("a", "2")
        last = asyncio.create_task(batcher.do("a", "3"))
        await asyncio.sleep(0)
        bakery.open.set()
        await asyncio.gather(first, last)

    asyncio.run(work())
    assert bakery.batches[1:] == [("a", ["2", "3"])]


def test_several_event_loops_share_a_lane() -> None:
    bakery = Bakery()
    bakery.open.set()
    batcher: Batcher[str, str] = Batcher("test", bakery.bake)
    found: list[list[str]] = []

    async def work(name: str) -> list[str]:
        return await asyncio.gather(*[batcher.do("a", f"{name}{n}") for n in range(50)])

    threads = [threading.Thread(target=lambda n=n: found.append(asyncio.run(work(f"{n}.")))) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert sorted(item for items in found for item in items) == sorted(
        f"a:{n}.{m}" for n in range(4) for m in range(50)
    )


def test_a_loop_that_has_ended_does_not_stop_the_lane() -> None:
    bakery = Bakery()
    batcher: Batcher[str, str] = Batcher("test", bakery.bake)

    async def leave() -> None:
        gone = asyncio.create_task(batcher.do("a", "1"))
        await bakery.has_begun()
        gone.cancel()

    asyncio.run(leave())
    bakery.open.set()
    assert asyncio.run(batcher.do("a", "2")) == "a:2"
