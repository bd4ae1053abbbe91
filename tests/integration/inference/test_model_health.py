"""Workers share through Redis which models fail; without Redis each goes by what it saw itself."""

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
from redis import Redis

from shared.inference import attempts, health
from shared.inference.breaker import Rule, State
from shared.inference.errors import ProviderSuspended
from shared.inference.health import Board, redis_key
from shared.inference.policy import BreakerState, Candidate, Fault, Route
from shared.inference.trace import Trace
from shared.kernel import cache, settings
from tests.faulty_provider import Faulty, faulty_provider
from tests.integration.inference.test_fault_matrix import asked, target
from tests.services import Services

KEY = "acme:provider:model"
# Open for so long, and then one call in as long a time.
OPEN_MS, PROBE_MS = 400, 300
ROUTE = Route(name="model", candidates=(Candidate(model="model"),), max_attempts=1)


def new_board() -> Board:
    return Board(rule=Rule(open_ms=OPEN_MS), probe_ms=PROBE_MS)


@pytest.fixture
def redis(services: Services, monkeypatch: pytest.MonkeyPatch) -> Iterator[Redis]:
    services.redis.start()
    monkeypatch.setenv("RUNYARD_REDIS_URL", services.redis_url)
    monkeypatch.setenv("RUNYARD_PRIVATE_PROVIDERS", "1")
    settings.forget()
    cache._breaker.succeeded()
    with Redis.from_url(services.redis_url) as client:
        client.flushall()
        yield client
    services.redis.start()
    cache._breaker.succeeded()
    settings.forget()


def run[T](work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(work)


async def fail(board: Board, times: int = 5, fault: Fault = Fault.SERVER_ERROR) -> None:
    for _ in range(times):
        await board.failed(KEY, fault)


async def seen_by(board: Board) -> BreakerState:
    return (await board.read([KEY]))[KEY].breaker


def test_what_one_worker_saw_opens_the_breaker_of_all(redis: Redis) -> None:
    here, there = new_board(), new_board()
    run(fail(here))
    assert here.health(KEY).breaker is BreakerState.OPEN
    assert there.health(KEY).breaker is BreakerState.CLOSED
    there.absorb({KEY: redis.get(redis_key(KEY))})  # type: ignore[dict-item]
    assert there.health(KEY).breaker is BreakerState.OPEN
    assert not run(there.admits(KEY))


def test_failures_of_several_workers_add_up(redis: Redis) -> None:
    boards = [new_board() for _ in range(5)]
    for board in boards:
        run(board.failed(KEY, Fault.SERVER_ERROR))
    assert run(seen_by(new_board())) is BreakerState.OPEN


def test_failures_that_many_workers_write_at_once_all_count(redis: Redis) -> None:
    # With a rule that opens nothing.
    boards = [Board(rule=Rule(in_a_row=10**6, of_at_least=10**6)) for _ in range(8)]
    with ThreadPoolExecutor(len(boards)) as threads:
        list(threads.map(lambda board: run(fail(board, 25)), boards))
    found = run(new_board().read([KEY]))[KEY]
    assert found.error_rate == 1
    raw = redis.get(redis_key(KEY))
    assert isinstance(raw, bytes)
    state = State.decode(raw)
    assert state is not None
    assert state.in_a_row == sum(slot.bad for slot in state.slots) == 200


_OTHER_PROCESS = f"""
import asyncio
from shared.inference.health import board
from shared.inference.policy import Fault

async def main():
    before = (await board.read(["theirs"]))["theirs"].breaker
    for _ in range(5):
        await board.failed({KEY!r}, Fault.TIMEOUT)
    print(before)

asyncio.run(main())
"""


def test_two_processes_see_each_others_breakers(redis: Redis) -> None:
    async def fails() -> None:
        for _ in range(5):
            await here.failed("theirs", Fault.SERVER_ERROR)

    here = Board()
    run(fails())
    done = subprocess.run(
        [sys.executable, "-c", _OTHER_PROCESS], env=dict(os.environ), capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "open"
    assert run(seen_by(here)) is BreakerState.OPEN


async def half_open(*boards: Board) -> None:
    await fail(boards[0])
    await asyncio.sleep(OPEN_MS / 1000 + 0.01)
    for board in boards:
        assert await seen_by(board) is BreakerState.HALF_OPEN


def test_half_open_one_call_at_a_time_is_let_through_over_all_workers(redis: Redis) -> None:
    async def main() -> None:
        boards = [new_board() for _ in range(4)]
        await half_open(*boards)
        assert sum([await board.admits(KEY) for board in boards for _ in range(5)]) == 1
        await asyncio.sleep(PROBE_MS / 1000 + 0.01)
        assert sum(await asyncio.gather(*(board.admits(KEY) for board in boards for _ in range(5)))) == 1

    run(main())


def test_a_success_closes_it_for_all_and_a_failure_opens_it_again(redis: Redis) -> None:
    async def main() -> None:
        here, there = new_board(), new_board()
        await half_open(here, there)
        await here.failed(KEY, Fault.SERVER_ERROR)
        assert await seen_by(there) is BreakerState.OPEN
        await asyncio.sleep(OPEN_MS / 1000 + 0.01)
        assert await here.admits(KEY)
        await here.succeeded(KEY, latency_ms=5)
        assert await seen_by(there) is BreakerState.CLOSED
        assert await there.admits(KEY)

    run(main())


@pytest.mark.parametrize("fault", [Fault.RATE_LIMITED, Fault.CONTEXT_LENGTH, Fault.MISCONFIGURED, None], ids=str)
def test_a_provider_that_answers_is_well_whatever_it_answers(redis: Redis, fault: Fault | None) -> None:
    async def main() -> None:
        board = new_board()
        await fail(board, 4)
        await board.failed(KEY, fault)
        await fail(board, 4)
        assert await seen_by(board) is BreakerState.CLOSED
        for _ in range(30):
            await board.failed(KEY, fault)
        assert await seen_by(board) is BreakerState.CLOSED

    run(main())


def test_without_redis_each_worker_goes_by_what_it_sees(redis: Redis, services: Services) -> None:
    async def main() -> None:
        here, there = new_board(), new_board()
        await fail(here)
        assert here.health(KEY).breaker is BreakerState.OPEN
        assert not await here.admits(KEY)
        assert await seen_by(there) is BreakerState.CLOSED
        await asyncio.sleep(OPEN_MS / 1000 + 0.01)
        assert here.health(KEY).breaker is BreakerState.HALF_OPEN
        assert [await here.admits(KEY) for _ in range(3)] == [True, False, False]
        await here.succeeded(KEY)
        assert here.health(KEY).breaker is BreakerState.CLOSED

    services.redis.kill()
    run(main())


def test_what_was_seen_while_redis_was_gone_is_shared_when_it_is_back(redis: Redis, services: Services) -> None:
    here = Board()
    services.redis.kill()
    run(fail(here, 4))
    services.redis.start()
    cache._breaker.succeeded()
    run(fail(here, 1))
    assert run(seen_by(new_board())) is BreakerState.OPEN


def test_what_was_read_before_does_not_undo_what_was_seen_since(redis: Redis) -> None:
    board = Board()
    run(fail(board, 1))
    old = redis.get(redis_key(KEY))
    run(fail(board, 4))
    board.absorb({KEY: old, "another": None})  # type: ignore[dict-item]
    assert board.health(KEY).breaker is BreakerState.OPEN
    board.absorb({KEY: b"\x00 no state"})
    assert board.health(KEY).breaker is BreakerState.OPEN


def test_answers_cost_no_round_trip_and_their_figures_are_shared_within_a_second(
    redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    writes = 0
    attempt = cache.attempt

    def counted(action: Any) -> Any:
        nonlocal writes
        writes += 1
        return attempt(action)

    async def main() -> None:
        for number in range(500):
            await board.succeeded(KEY, latency_ms=number, first_token_ms=7)
            if number % 50 == 0:
                await asyncio.to_thread(board._writer.submit(lambda: None).result)
        board._records[KEY].flushed_at -= 1_000
        await board.succeeded(KEY, latency_ms=499, first_token_ms=7)
        await asyncio.to_thread(board._writer.submit(lambda: None).result)

    board = Board()
    monkeypatch.setattr(cache, "attempt", counted)
    run(main())
    # The first, and a second later the rest of them together.
    assert writes == 2
    found = run(Board().read([KEY]))[KEY]
    assert (found.error_rate, found.first_token_ms) == (0, 7)
    assert found.latency_ms in range(490, 500)


def test_a_board_keeps_no_more_than_so_many_models(redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "_MOST_KEPT", 3)
    board = Board()
    for number in range(20):
        run(board.succeeded(f"own:provider:{number}"))
    assert len(board._records) == 3
    assert board.health("own:provider:0").breaker is BreakerState.CLOSED


@pytest.fixture(scope="module")
def served() -> Iterator[Faulty]:
    with faulty_provider() as told:
        yield told


@pytest.fixture
def faulty(served: Faulty, redis: Redis, monkeypatch: pytest.MonkeyPatch) -> Faulty:
    monkeypatch.setattr(health, "board", new_board())
    served.does.clear()
    served.next.clear()
    served.asked.clear()
    return served


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("fault", ["500", "503", "hang", "reset", "malformed", "truncated", "wrong-type"])
def test_the_breaker_opens_on_each_kind_of_failure_half_opens_and_closes(
    faulty: Faulty, fault: str, streamed: bool
) -> None:
    async def main() -> None:
        well = target(faulty, "model")
        model = replace(well, timeout_s=0.1 if fault == "hang" else None)
        faulty.does["model"] = fault
        for _ in range(5):
            assert (await asked([model], streamed=streamed, route=ROUTE)).error is not None
        ended = await asked([model], streamed=streamed, route=ROUTE)
        assert isinstance(ended.error, ProviderSuspended)
        assert ended.error.retry_after_s == 1
        assert faulty.asked["model"] == 5

        faulty.does.clear()
        await asyncio.sleep(OPEN_MS / 1000 + 0.01)
        assert (await asked([well], streamed=streamed, route=ROUTE)).error is None
        ended = await asked([well], streamed=streamed, route=ROUTE)
        assert ended.error is None
        assert health.board.health(model.key).breaker is BreakerState.CLOSED

    run(main())


@pytest.mark.parametrize("fault", ["429-later", "too-long", "401", "404", "400"])
def test_the_breaker_stays_closed_for_a_provider_that_answers(faulty: Faulty, fault: str) -> None:
    async def main() -> None:
        model = target(faulty, "model")
        faulty.does["model"] = fault
        for _ in range(8):
            ended = await asked([model], streamed=False, route=ROUTE)
            assert not isinstance(ended.error, ProviderSuspended)
        assert faulty.asked["model"] == 8

    run(main())


def test_a_suspended_target_is_passed_over_and_the_other_ones_error_is_told(faulty: Faulty) -> None:
    async def main() -> None:
        first, second = target(faulty, "first"), target(faulty, "second")
        for _ in range(5):
            await health.board.failed(first.key, Fault.SERVER_ERROR)
        no_fallback = replace(ROUTE, fall_back_on=frozenset(), max_attempts=3)
        assert (await asked([first, second], streamed=False, route=no_fallback)).answered == "second"
        faulty.does["second"] = "503"
        for order in ([first, second], [second, first]):
            ended = await asked(order, streamed=False, route=replace(ROUTE, max_attempts=3))
            assert ended.error is not None
            assert ended.error.code == "provider_failed"
        assert faulty.asked["first"] == 0

    run(main())


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
def test_a_tenant_in_a_hurry_does_not_suspend_the_platforms_provider(faulty: Faulty, streamed: bool) -> None:
    async def main() -> None:
        faulty.does["model"] = "hang-in-stream"
        model = target(faulty, "model", timeout_s=0.05)
        model = replace(model, account=replace(model.account, name=model.account.owner, own=False, owner=""))
        for _ in range(6):
            ended = await asked([model], streamed=streamed, route=ROUTE)
            assert ended.error is not None
            assert not isinstance(ended.error, ProviderSuspended)

    run(main())


def test_a_reader_that_goes_away_says_nothing_of_the_provider(faulty: Faulty) -> None:
    async def main() -> None:
        model = target(faulty, "model")
        for _ in range(6):
            begun = await attempts.begin(
                [model],
                lambda _: {"model": "model"},
                until=asyncio.get_running_loop().time() + 5,
                route=ROUTE,
                trace=Trace(),
            )
            await begun.chunks.aclose()
        assert health.board.health(model.key).error_rate is None

    run(main())


def test_a_failure_is_told_though_its_caller_is_gone(faulty: Faulty) -> None:
    async def main() -> None:
        # The write waits for others before it.
        health.board._writer.submit(others.wait, 10)
        task = asyncio.ensure_future(health.board.failed(KEY, Fault.SERVER_ERROR))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        others.set()
        await asyncio.to_thread(health.board._writer.submit(lambda: None).result)
        assert (await new_board().read([KEY]))[KEY].error_rate == 1

    others = threading.Event()
    run(main())
