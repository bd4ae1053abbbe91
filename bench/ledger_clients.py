"""Clients of a credit ledger, and of a bare table beside it: threads in processes, each with its own connection."""

import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from itertools import count
from typing import LiteralString
from uuid import UUID

import psycopg

from bench.results import percentile
from shared.billing import service
from shared.kernel import clock, db, settings
from shared.kernel.caller import Caller
from tests.nursery import Nursery, Pipe

# As many as a function's pool has connections. A process of its own for each client, as in Lambda, would be more honest
# still, but 64 of them spend two cores on each other.
CLIENTS_A_PROCESS = 8
_AMOUNT = 1_000
_SPENT = 400
_STARTS_WITHIN_S = 60.0

BARE_TABLES: LiteralString = """
    CREATE TABLE bench_balances (id int PRIMARY KEY, amount bigint NOT NULL, entries bigint NOT NULL);
    CREATE TABLE bench_entries (
        balance_id int NOT NULL, entry_no bigint NOT NULL, amount bigint NOT NULL, PRIMARY KEY (balance_id, entry_no)
    );
    INSERT INTO bench_balances SELECT n, 1000000000, 0 FROM generate_series(0, 99) n;
    GRANT SELECT, UPDATE ON bench_balances TO runyard_app;
    GRANT INSERT ON bench_entries TO runyard_app
"""
_UPDATE: LiteralString = """
    UPDATE bench_balances SET amount = amount - 1, entries = entries + 1 WHERE id = %s RETURNING entries
"""
_INSERT: LiteralString = "INSERT INTO bench_entries (balance_id, entry_no, amount) VALUES (%s, %s, 1)"

type Work = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Job:
    """What all clients do over and over, from `begins` (of the monotonic clock, the machine's) for `seconds`."""

    bare: bool
    orgs: Sequence[UUID]
    seconds: float


@dataclass(frozen=True, slots=True)
class Pace:
    """How often it was done in a second by all clients together, and how long one took."""

    per_s: float
    p50_ms: float
    p95_ms: float


@dataclass(slots=True)
class _Threads:
    """The clients of one process: connected and warm before they count."""

    job: Job
    number: int
    clients: int
    begin: threading.Barrier
    times_ms: list[float] = field(default_factory=list)
    errors: list[BaseException] = field(default_factory=list)

    def run(self, client: int) -> None:
        try:
            work = _bare(self.job) if self.job.bare else _pairs(self.job, f"{self.number}:{client}")
            first = (self.number * CLIENTS_A_PROCESS + client) * 13
            for n in range(3):
                work(first + n)
            self.begin.wait(_STARTS_WITHIN_S)
            ends = time.monotonic() + self.job.seconds
            mine = []
            for n in count(first + 3):
                began = time.monotonic()
                if began >= ends:
                    break
                work(n)
                mine.append((time.monotonic() - began) * 1000)
            self.times_ms += mine
        except BaseException as error:  # noqa: BLE001 - told to the process that measures
            self.begin.abort()
            self.errors.append(error)


def measure(job: Job, clients: int, environment: Mapping[str, str]) -> Pace:
    """Let so many clients do the job at the same time; raise what fails in one of them."""
    with Nursery() as nursery:
        processes = [
            nursery.fork(partial(_serve, job, number, min(CLIENTS_A_PROCESS, clients - start), dict(environment)))
            for number, start in enumerate(range(0, clients, CLIENTS_A_PROCESS))
        ]
        for process in processes:
            if (said := process.pipe.recv()) != "ready":
                raise SystemExit(f"A client failed: {said}")
        for process in processes:
            process.pipe.send("begin")
        times_ms: list[float] = []
        for process in processes:
            answer = process.pipe.recv()
            process.bury()
            if isinstance(answer, str):
                raise SystemExit(f"A client failed: {answer}")
            times_ms += answer
    return Pace(len(times_ms) / job.seconds, percentile(times_ms, 50), percentile(times_ms, 95))


def _serve(job: Job, number: int, clients: int, environment: Mapping[str, str], pipe: Pipe) -> None:
    os.environ.update(environment)
    settings.forget()
    with db.anonymous():
        pass  # the pool is made here, and not by all the threads at the same moment

    def wait_for_all() -> None:
        pipe.send("ready")
        pipe.recv()

    threads = _Threads(job, number, clients, threading.Barrier(clients, action=wait_for_all))
    running = [threading.Thread(target=threads.run, args=(client,)) for client in range(clients)]
    for each in running:
        each.start()
    for each in running:
        each.join()
    pipe.send(repr(threads.errors[0]) if threads.errors else threads.times_ms)
    db.close()


def _pairs(job: Job, name: str) -> Work:
    """Return one hold and its settlement, each in a transaction of its own as two requests would."""
    callers = [Caller.system(org_id) for org_id in job.orgs]
    run = time.monotonic_ns()

    def work(n: int) -> None:
        caller, source = callers[n % len(callers)], f"bench:{run}:{name}:{n}"
        expires_at = clock.now() + timedelta(hours=1)
        with db.tenant(caller) as tx:
            service.hold(tx, caller, amount_microusd=_AMOUNT, source_id=source, expires_at=expires_at)
        with db.tenant(caller) as tx:
            service.settle(tx, caller, source_id=source, amount_microusd=_SPENT)

    return work


def _bare(job: Job) -> Work:
    """Return one transaction of two statements over a bare connection that has both of them prepared."""
    connection = psycopg.connect(settings.database().url, autocommit=True, prepare_threshold=0)

    def work(n: int) -> None:
        balance = n % len(job.orgs)
        with connection.transaction():
            (entry_no,) = connection.execute(_UPDATE, (balance,)).fetchone() or (0,)
            connection.execute(_INSERT, (balance, entry_no))

    return work
