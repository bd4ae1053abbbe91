"""Every way in which a provider fails, with and without another to fall back on, streamed or not, over real HTTP."""

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest

from shared.inference import attempts, health, providers
from shared.inference.config import ProviderAccount, ProviderKind, Target
from shared.inference.errors import NotServed
from shared.inference.policy import Candidate, Fault, Route
from shared.inference.targets import OWN_KEY
from shared.inference.trace import Trace
from shared.kernel import settings
from shared.kernel.errors import RunyardError
from tests.faulty_provider import CHUNKS, TEN_MB, Faulty, faulty_provider
from tests.services import Services

TEXT = "".join(CHUNKS)
ACCOUNT = ProviderAccount(name="faulty", kind=ProviderKind.OPENAI, own=True, owner="acme")
ROUTE = Route(name="test", candidates=(Candidate(model="first"), Candidate(model="second")))
TIME_S = 20.0
# What a target that will hang may take before it counts as hanging.
PATIENCE_S = 1.0


@dataclass(frozen=True, slots=True)
class Cell:
    """An outcome: who answered (`second`: the fallback; empty: nobody), or with which error, after how many requests.

    `broken`: the error came in mid-stream, and what was said before is there.
    """

    answered: str = ""
    error: str = ""
    requests: int = 1
    retry_after_s: int | None = None
    broken: bool = False


FELL_BACK = Cell("second", requests=2)


# fault: alone whole, alone streamed, with fallback whole, with fallback streamed.
MATRIX: dict[str, tuple[Cell, Cell, Cell, Cell]] = {
    "429": (
        Cell(error="provider_rate_limited"),
        Cell(error="provider_rate_limited"),
        FELL_BACK,
        FELL_BACK,
    ),
    "429-soon": (
        Cell(error="provider_rate_limited", requests=2, retry_after_s=1),
        Cell(error="provider_rate_limited", requests=2, retry_after_s=1),
        FELL_BACK,
        FELL_BACK,
    ),
    "429-later": (
        Cell(error="provider_rate_limited", retry_after_s=30),
        Cell(error="provider_rate_limited", retry_after_s=30),
        FELL_BACK,
        FELL_BACK,
    ),
    "500": (Cell(error="provider_failed"), Cell(error="provider_failed"), FELL_BACK, FELL_BACK),
    "503": (Cell(error="provider_failed"), Cell(error="provider_failed"), FELL_BACK, FELL_BACK),
    "hang": (Cell(error="provider_timed_out"), Cell(error="provider_timed_out"), FELL_BACK, FELL_BACK),
    "hang-in-stream": (
        Cell(error="provider_timed_out"),
        Cell("first", error="stream_broken", broken=True),
        FELL_BACK,
        Cell("first", error="stream_broken", broken=True),
    ),
    "reset": (
        Cell(error="provider_unreachable", requests=2, retry_after_s=1),
        Cell(error="provider_unreachable", requests=2, retry_after_s=1),
        FELL_BACK,
        FELL_BACK,
    ),
    "malformed": (
        Cell(error="provider_answered_wrongly"),
        Cell(error="provider_answered_wrongly"),
        FELL_BACK,
        FELL_BACK,
    ),
    "truncated": (
        Cell(error="provider_unreachable", requests=2, retry_after_s=1),
        Cell("first", error="stream_broken", broken=True),
        FELL_BACK,
        Cell("first", error="stream_broken", broken=True),
    ),
    "truncated-early": (
        Cell(error="provider_unreachable", requests=2, retry_after_s=1),
        Cell(error="stream_broken"),
        FELL_BACK,
        FELL_BACK,
    ),
    "wrong-type": (
        Cell(error="provider_answered_wrongly"),
        Cell(error="provider_answered_wrongly"),
        FELL_BACK,
        FELL_BACK,
    ),
    "too-long": (
        Cell(error="context_length_exceeded"),
        Cell(error="context_length_exceeded"),
        FELL_BACK,
        FELL_BACK,
    ),
    "10mb": (Cell("first"), Cell("first"), Cell("first"), Cell("first")),
    "401": (Cell(error="provider_misconfigured"), Cell(error="provider_misconfigured"), FELL_BACK, FELL_BACK),
    "404": (Cell(error="model_not_found"), Cell(error="model_not_found"), FELL_BACK, FELL_BACK),
    "400": (
        Cell(error="provider_refused_request"),
        Cell(error="provider_refused_request"),
        Cell(error="provider_refused_request"),
        Cell(error="provider_refused_request"),
    ),
}
WAYS = ("alone, whole", "alone, streamed", "fallback, whole", "fallback, streamed")
CELLS = [(fault, way, cell) for fault, cells in MATRIX.items() for way, cell in zip(WAYS, cells, strict=True)]


@pytest.fixture(scope="module")
def served() -> Iterator[Faulty]:
    with faulty_provider() as told:
        yield told


@pytest.fixture
def faulty(served: Faulty, services: Services, monkeypatch: pytest.MonkeyPatch) -> Iterator[Faulty]:
    services.redis.start()
    monkeypatch.setenv("RUNYARD_REDIS_URL", services.redis_url)
    monkeypatch.setenv("RUNYARD_PRIVATE_PROVIDERS", "1")
    settings.forget()
    monkeypatch.setattr(health, "board", health.Board())
    served.does.clear()
    served.next.clear()
    served.asked.clear()
    yield served
    settings.forget()


@dataclass(slots=True)
class Ended:
    """How a call ended, whichever way it was made."""

    answered: str = ""
    text: str = ""
    error: RunyardError | None = None
    broken: bool = False


def target(faulty: Faulty, model: str, **changes: Any) -> Target:
    # Breakers are shared through Redis: each test has models of its own.
    account = replace(ACCOUNT, base_url=faulty.url, owner=f"{time.monotonic_ns()}")
    known = Target(account=account, model=model, shown_as=f"faulty/{model}", price=OWN_KEY)
    return replace(known, **changes)


def pair(faulty: Faulty) -> list[Target]:
    """A target that is given little time if it will hang, and one to fall back on."""
    patience_s = PATIENCE_S if faulty.does.get("first", "").startswith("hang") else None
    return [target(faulty, "first", timeout_s=patience_s), target(faulty, "second")]


def run[T](work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(work)


def body_for(target: Target) -> dict[str, Any]:
    return {"model": target.model, "messages": [{"role": "user", "content": "Hello"}], "max_completion_tokens": 10}


async def asked(
    targets: list[Target], *, streamed: bool, trace: Trace | None = None, route: Route = ROUTE, time_s: float = TIME_S
) -> Ended:
    trace, until = trace or Trace(), time.monotonic() + time_s
    ended = Ended()
    try:
        if not streamed:
            whole = await attempts.ask(targets, body_for, until=until, route=route, trace=trace)
            ended.answered = whole.target.model
            ended.text = whole.answer.body["choices"][0]["message"]["content"]
            assert whole.attempts == trace.attempts
            return ended
        begun = await attempts.begin(targets, body_for, until=until, route=route, trace=trace)
    except RunyardError as error:
        ended.error = error
        return ended
    ended.answered = begun.target.model
    ended.text = "".join(chunk.text for chunk in begun.first)
    try:
        async for chunk in begun.chunks:
            ended.text += chunk.text
    except RunyardError as error:
        ended.error, ended.broken = error, True
    assert begun.attempts == trace.attempts
    return ended


@pytest.mark.parametrize(("fault", "way", "cell"), CELLS, ids=[f"{fault}, {way}" for fault, way, _ in CELLS])
def test_each_fault_has_the_outcome_that_is_stated(faulty: Faulty, fault: str, way: str, cell: Cell) -> None:
    faulty.does["first"] = fault
    targets = pair(faulty) if way.startswith("fallback") else pair(faulty)[:1]
    trace, began = Trace(), time.monotonic()

    ended = run(asked(targets, streamed=way.endswith("streamed"), trace=trace))

    took_s = time.monotonic() - began
    assert (ended.answered, ended.error.code if ended.error else "") == (cell.answered, cell.error)
    assert ended.broken is cell.broken
    assert faulty.asked.total() == trace.attempts == cell.requests
    if ended.error is not None:
        assert ended.error.retry_after_s == cell.retry_after_s
    whole = "x" * TEN_MB if fault == "10mb" else TEXT
    if cell.broken:
        assert ended.text == "Once upon"
    elif cell.answered:
        assert ended.text == whole
    assert trace.provider_ms <= took_s * 1000 + 1
    assert took_s < TIME_S / 2


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("fault", ["429-soon", "reset"])
def test_a_provider_that_is_back_in_a_moment_is_asked_once_more_when_there_is_no_other(
    faulty: Faulty, fault: str, streamed: bool
) -> None:
    faulty.next["first"] = [fault]
    began = time.monotonic()
    trace = Trace()
    ended = run(asked([target(faulty, "first")], streamed=streamed, trace=trace))
    assert (ended.answered, ended.text, trace.attempts) == ("first", TEXT, 2)
    # As long as it asked for; what was spent waiting for its leave wasn't spent by the provider.
    waited_s = 1 if fault == "429-soon" else 0
    assert waited_s * 1000 + trace.provider_ms <= (time.monotonic() - began) * 1000 + 1


def test_nobody_waits_for_a_provider_beyond_the_time_that_there_is(faulty: Faulty) -> None:
    faulty.does["first"] = "429-soon"
    ended = run(asked([target(faulty, "first")], streamed=False, time_s=0.9))
    assert ended.error is not None
    assert ended.error.code == "provider_rate_limited"
    assert faulty.asked == {"first": 1}


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
def test_a_hanging_provider_leaves_the_others_their_share_of_the_time(faulty: Faulty, streamed: bool) -> None:
    faulty.does["first"] = "hang"
    began = time.monotonic()
    ended = run(asked([target(faulty, "first"), target(faulty, "second")], streamed=streamed, time_s=2.5))
    assert ended.answered == "second"
    assert time.monotonic() - began > 0.9


def test_a_candidate_of_a_route_that_does_not_fall_back_on_timeouts_has_all_the_time(faulty: Faulty) -> None:
    faulty.does["first"] = "hang"
    route = replace(ROUTE, fall_back_on=frozenset({Fault.SERVER_ERROR}))
    began = time.monotonic()
    ended = run(asked([target(faulty, "first"), target(faulty, "second")], streamed=False, time_s=1, route=route))
    assert ended.error is not None
    assert ended.error.code == "provider_timed_out"
    assert time.monotonic() - began > 0.9
    assert faulty.asked == {"first": 1}


FAULTS = {
    Fault.RATE_LIMITED: "429",
    Fault.SERVER_ERROR: "500",
    Fault.TIMEOUT: "hang",
    Fault.CONTEXT_LENGTH: "too-long",
    Fault.MISCONFIGURED: "401",
}


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("kind", FAULTS, ids=str)
def test_a_route_falls_back_on_the_faults_that_it_names_and_no_others(
    faulty: Faulty, kind: Fault, streamed: bool
) -> None:
    faulty.does["first"] = FAULTS[kind]
    only = replace(ROUTE, fall_back_on=frozenset({kind}))
    others = replace(ROUTE, fall_back_on=frozenset(Fault) - {kind})
    assert run(asked(pair(faulty), streamed=streamed, route=only)).answered == "second"
    assert run(asked(pair(faulty), streamed=streamed, route=others)).error is not None
    assert faulty.asked == {"first": 2, "second": 1}


def test_a_route_asks_no_more_often_than_it_says(faulty: Faulty) -> None:
    names = ["a", "b", "c"]
    faulty.does.update(dict.fromkeys(names, "500"))
    ended = run(asked([target(faulty, name) for name in names], streamed=False, route=replace(ROUTE, max_attempts=2)))
    assert ended.error is not None
    assert faulty.asked == {"a": 1, "b": 1}


def test_the_last_error_is_told_when_all_fail(faulty: Faulty) -> None:
    faulty.does.update(first="500", second="429-later")
    ended = run(asked(pair(faulty), streamed=True))
    assert ended.error is not None
    assert (ended.error.code, ended.error.retry_after_s) == ("provider_rate_limited", 30)


def test_a_request_that_one_kind_of_provider_cannot_take_goes_to_the_next(
    faulty: Faulty, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Unable:
        async def chat(self, *_: Any, **__: Any) -> None:
            raise NotServed("It has no such parameter.")

    real = providers.of
    monkeypatch.setattr(providers, "of", lambda kind: Unable() if kind is ProviderKind.ANTHROPIC else real(kind))
    unable = target(faulty, "first")
    unable = replace(unable, account=replace(unable.account, kind=ProviderKind.ANTHROPIC))
    route = replace(ROUTE, fall_back_on=frozenset())
    assert run(asked([unable, target(faulty, "second")], streamed=False, route=route)).answered == "second"
    ended = run(asked([unable], streamed=False, route=route))
    assert isinstance(ended.error, NotServed)


@pytest.mark.parametrize("fault", ["429", "500", "hang", "reset", "malformed", "wrong-type", "401", "404"])
def test_texts_are_embedded_by_the_next_when_the_first_fails(faulty: Faulty, fault: str) -> None:
    faulty.does["first"] = fault

    async def embedded(targets: list[Target]) -> attempts.Embedded:
        return await attempts.embed(
            targets, ["a", "b"], dimensions=None, until=time.monotonic() + TIME_S, route=ROUTE, trace=trace
        )

    trace = Trace()
    found = run(embedded(pair(faulty)))
    assert (found.target.model, found.vectors, found.tokens.input) == ("second", ((1.0, 0.0), (1.0, 1.0)), 3)
    assert found.attempts == trace.attempts == 2
    with pytest.raises(RunyardError):
        run(embedded(pair(faulty)[:1]))


def test_a_tool_call_is_a_beginning_and_an_answer_without_words_is_one_too(faulty: Faulty) -> None:
    for fault in ("tool", "silent"):
        faulty.does["first"] = fault
        ended = run(asked(pair(faulty), streamed=True))
        assert (ended.answered, ended.error) == ("first", None)


def test_a_stream_that_never_says_anything_is_left_for_the_next(faulty: Faulty) -> None:
    faulty.does["first"] = "endless-opening"
    assert run(asked(pair(faulty), streamed=True)).answered == "second"


def test_first_and_rest_are_all_chunks_of_a_stream_in_their_order(faulty: Faulty) -> None:
    async def bodies() -> list[Any]:
        begun = await attempts.begin(
            [target(faulty, "first")], body_for, until=time.monotonic() + TIME_S, route=ROUTE, trace=Trace()
        )
        assert [chunk.text for chunk in begun.first] == ["", CHUNKS[0]]
        return [chunk async for chunk in begun.chunks]

    rest = run(bodies())
    assert [chunk.text for chunk in rest if chunk.text] == CHUNKS[1:]
    assert [chunk.tokens.output for chunk in rest if chunk.tokens] == [4]


@pytest.mark.parametrize("read", [False, True], ids=["before the first chunk is read", "in the middle"])
def test_a_reader_that_goes_away_ends_the_request_at_the_provider(faulty: Faulty, read: bool) -> None:
    faulty.does["first"] = "hang-in-stream"

    async def leave() -> None:
        begun = await attempts.begin(
            [target(faulty, "first")], body_for, until=time.monotonic() + TIME_S, route=ROUTE, trace=Trace()
        )
        if read:
            await anext(begun.chunks)
        await begun.chunks.aclose()
        await _until(lambda: faulty.abandoned == before + 1)

    before = faulty.abandoned
    run(leave())


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
def test_a_caller_that_goes_away_ends_the_request_at_the_provider(faulty: Faulty, streamed: bool) -> None:
    faulty.does["first"] = "hang"

    async def leave() -> None:
        asking = asyncio.ensure_future(asked([target(faulty, "first")], streamed=streamed))
        await _until(lambda: faulty.asked["first"] == 1)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        await _until(lambda: faulty.abandoned == before + 1)

    before = faulty.abandoned
    run(leave())


async def _until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not true():  # noqa: ASYNC110 - what it waits for happens in another thread
            await asyncio.sleep(0.005)
