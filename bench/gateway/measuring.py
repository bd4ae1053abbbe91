"""What something that stands before a provider adds to it: time, processor, memory; with the provider alone beside it.

Each case (so many clients, whole answers or streams) is measured in several rounds; in each, the floor (the provider
asked directly) and all targets take turns, so that whatever else the machine does meets all of them alike. Overheads
are differences of percentiles within a round; what is reported is the median over the rounds.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median

import psutil

from bench.gateway.load import Generator, Job, Loaded
from bench.results import Cell, percentile, rounded
from local.terminal import Terminal

_WARM_UP_REQUESTS = 200
_MEMORY_CLIENTS = 16
# The floor's answers come in tenths of a millisecond: a second holds thousands of them.
_FLOOR_AT_MOST_S = 1.0
# Work that was put off until after the answer belongs to the request as well.
_IDLE_CORES = 0.1
_IDLE_LOOK_S = 0.1
_IDLE_WITHIN_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Something that answers `POST {url}/v1/chat/completions`; `pids` are the processes whose costs are its own.

    Memory is that of the first of them: a database fills what it was given.
    """

    name: str
    url: str
    key: str
    model: str
    pids: tuple[int, ...]

    def cpu_s(self) -> float:
        """Return the processor seconds of its processes and all they have started, living or dead."""
        return sum(_cpu_s(psutil.Process(pid)) for pid in self.pids)

    def rss_mb(self) -> float:
        """Return the resident memory of its first process and its children, megabytes."""
        root = psutil.Process(self.pids[0])
        living = [root, *root.children(recursive=True)]
        return sum(process.memory_info().rss for process in living) / 1e6

    def settle(self) -> None:
        """Wait until it has finished what it put off."""
        deadline = time.monotonic() + _IDLE_WITHIN_S
        used = self.cpu_s()
        while time.monotonic() < deadline:
            time.sleep(_IDLE_LOOK_S)
            before, used = used, self.cpu_s()
            if used - before < _IDLE_CORES * _IDLE_LOOK_S:
                return


@dataclass(frozen=True, slots=True)
class Case:
    """A load: so many clients who ask for whole answers or for streams."""

    clients: int
    stream: bool = False

    @property
    def name(self) -> str:
        return "stream" if self.stream else "whole"


CASES = (Case(1), Case(16), Case(64), Case(1, stream=True), Case(16, stream=True))


@dataclass(frozen=True, slots=True)
class Figures:
    """One target in one case in one round; the first word's times are those of whole answers when nothing streams."""

    p50_ms: float
    p95_ms: float
    first_p50_ms: float
    first_p95_ms: float
    requests_per_s: float
    cpu_ms: float

    @classmethod
    def of(cls, loaded: Loaded, cpu_s: float) -> "Figures":
        first = loaded.first_s or loaded.times_s
        return cls(
            p50_ms=percentile(loaded.times_s, 50) * 1000,
            p95_ms=percentile(loaded.times_s, 95) * 1000,
            first_p50_ms=percentile(first, 50) * 1000,
            first_p95_ms=percentile(first, 95) * 1000,
            requests_per_s=loaded.count / loaded.elapsed_s,
            cpu_ms=cpu_s * 1000 / loaded.count,
        )


@dataclass(slots=True)
class Measured:
    """All rounds of one target in one case, each with the floor of the same round."""

    target: str
    case: Case
    rounds: list[Figures] = field(default_factory=list)
    floors: list[Figures] = field(default_factory=list)

    def median(self, name: str) -> float:
        return float(median(getattr(figures, name) for figures in self.rounds))

    def overhead(self, name: str) -> float:
        """Return the median over the rounds of (target's - floor's) of a figure in milliseconds."""
        pairs = zip(self.rounds, self.floors, strict=True)
        return float(median(getattr(target, name) - getattr(floor, name) for target, floor in pairs))

    @property
    def rps_per_core(self) -> float:
        """Return the requests that one core of its own would have time for in a second."""
        return 1000 / self.median("cpu_ms")

    def row(self) -> dict[str, Cell]:
        row: dict[str, Cell] = {
            "target": self.target,
            "answers": self.case.name,
            "clients": self.case.clients,
            "p50_ms": rounded(self.median("p50_ms")),
            "p95_ms": rounded(self.median("p95_ms")),
            "overhead_p50_ms": rounded(self.overhead("p50_ms")),
            "overhead_p95_ms": rounded(self.overhead("p95_ms")),
            "first_overhead_p50_ms": None,
            "first_overhead_p95_ms": None,
            "requests_per_s": rounded(self.median("requests_per_s")),
            "cpu_ms": rounded(self.median("cpu_ms")),
            "rps_per_core": rounded(self.rps_per_core),
        }
        if self.case.stream:
            row["first_overhead_p50_ms"] = rounded(self.overhead("first_p50_ms"))
            row["first_overhead_p95_ms"] = rounded(self.overhead("first_p95_ms"))
        return row


@dataclass(frozen=True, slots=True)
class Memory:
    """Resident memory of a target once it is warm, and after so many calls more."""

    target: str
    calls: int
    before_mb: float
    after_mb: float


def measure(
    generator: Generator, floor: Target, targets: Sequence[Target], *, seconds: float, rounds: int, terminal: Terminal
) -> list[Measured]:
    """Return every case of the floor and of each target; `seconds` is the length of one run of one case."""
    sides = (floor, *targets)
    measured = {(side.name, case): Measured(side.name, case) for case in CASES for side in sides}
    with terminal.step("warming up"):
        for side in sides:
            for case in CASES:
                generator.load(_job(side, case, requests=max(_WARM_UP_REQUESTS, 2 * case.clients)))
    for number in range(rounds):
        with terminal.step(f"round {number + 1} of {rounds}"):
            for case in CASES:
                at_floor = _run(generator, floor, case, min(seconds, _FLOOR_AT_MOST_S))
                measured[floor.name, case].rounds.append(at_floor)
                # Who comes first in one round comes last in the next.
                for target in targets if number % 2 == 0 else reversed(targets):
                    measured[target.name, case].rounds.append(_run(generator, target, case, seconds))
                for side in sides:
                    measured[side.name, case].floors.append(at_floor)
    return list(measured.values())


def measure_memory(generator: Generator, target: Target, *, calls: int, terminal: Terminal) -> Memory:
    """Return what a target takes before and after so many whole answers, after the warm-up that loads its code."""
    generator.load(_job(target, Case(_MEMORY_CLIENTS), requests=_WARM_UP_REQUESTS))
    generator.load(_job(target, Case(_MEMORY_CLIENTS, stream=True), requests=_MEMORY_CLIENTS))
    target.settle()
    before_mb = target.rss_mb()
    with terminal.step(f"{target.name}: {calls:,} calls, for its memory", done=f"{target.name}: {calls:,} calls"):
        generator.load(_job(target, Case(_MEMORY_CLIENTS), requests=calls))
    target.settle()
    return Memory(target.name, calls, before_mb, target.rss_mb())


def _run(generator: Generator, target: Target, case: Case, seconds: float) -> Figures:
    target.settle()
    before = target.cpu_s()
    loaded = generator.load(_job(target, case, seconds=seconds))
    target.settle()
    return Figures.of(loaded, target.cpu_s() - before)


def _job(target: Target, case: Case, *, seconds: float | None = None, requests: int | None = None) -> Job:
    return Job(
        url=target.url,
        key=target.key,
        model=target.model,
        clients=case.clients,
        seconds=seconds,
        requests=requests,
        stream=case.stream,
    )


def _cpu_s(process: psutil.Process) -> float:
    living = sum(_cpu_s(child) for child in process.children())
    times = process.cpu_times()
    return float(times.user + times.system + times.children_user + times.children_system + living)
