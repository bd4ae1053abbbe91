"""How much usage is metered in a second, with duplicates and killed workers, and whether a single event was lost.

A producer puts messages of 250 to 500 events of several orgs on a queue of the emulator at a steady rate; 5 % of the
events come again, half of them with their whole message, half in another one. Workers take batches of ten, hand them to
the function's handler as Lambda does, and delete what succeeded. Every few seconds one of them is killed with SIGKILL,
wherever it is, and replaced. When the queue is empty, the ledger is compared with what was produced: by org and kind,
events, quantity and cost; and what the orgs were charged with that cost. Any difference is the drift.

Producer, emulator, workers and PostgreSQL share the machine. `events_per_s` is what was counted from the first to the
last event, each once; `events_per_core_s` is that by the processor seconds of workers and PostgreSQL alone. A killed
worker's messages come back once their visibility has run out; nobody is killed in the last seconds, so that this falls
into the measured time. `drain_s` is what it took from the last message sent to an empty queue.
"""

import argparse
import multiprocessing
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, LiteralString
from uuid import UUID

import psutil
import psycopg
from psycopg.rows import dict_row

from bench import results
from bench.emulated import Emulated, emulated
from bench.metering_load import Made, produce
from bench.metering_workers import work
from bench.results import Cell, Result, rounded
from shared.billing import service as billing
from shared.kernel import aws, db, ids, settings
from shared.kernel.caller import Caller
from shared.orgs import service as orgs

_ORGS = 8
_CREDITS = 10**15
_DRAINS_WITHIN_S = 120.0
_STARTS_WITHIN_S = 60.0
_CONTEXT = multiprocessing.get_context("forkserver")
# A worker that replaces a killed one begins with all code loaded: its start isn't what is measured.
_CONTEXT.set_forkserver_preload(["bench.metering_workers", "boto3", "botocore.client", "aws_xray_sdk.core"])

_COUNTED: LiteralString = """
    SELECT org_id, kind, count(*) AS events, sum(quantity)::bigint AS quantity,
           sum(cost_microusd)::bigint AS cost_microusd
      FROM usage_events WHERE org_id = ANY(%s) GROUP BY org_id, kind
"""
_SPAN: LiteralString = "SELECT min(recorded_at) AS first, max(recorded_at) AS last FROM usage_events"
_CHARGED: LiteralString = """
    SELECT org_id, settled_microusd + owed_microusd AS charged FROM credit_accounts WHERE org_id = ANY(%s)
"""


@dataclass(slots=True)
class _Workers:
    """Processes that empty the queue; each dead one is replaced."""

    queue_url: str
    stop: Any
    alive: list[BaseProcess]
    kills: int = 0

    def start(self) -> None:
        process = _CONTEXT.Process(target=work, args=(self.queue_url, self.stop), daemon=True)
        process.start()
        self.alive.append(process)

    def kill_one(self) -> None:
        """Kill a worker wherever it is, and put another in its place."""
        victim = self.alive.pop(random.randrange(len(self.alive)))
        victim.kill()
        victim.join()
        self.kills += 1
        self.start()

    def check(self) -> None:
        for process in self.alive:
            if not process.is_alive():
                raise SystemExit(f"A worker ended by itself: exit code {process.exitcode}.")


def main(arguments: Sequence[str]) -> None:
    options = _parser().parse_args(arguments)
    random.seed(options.seed)
    with tempfile.TemporaryDirectory(prefix="runyard-bench-") as folder, emulated() as running:
        org_ids = [_org(number) for number in range(_ORGS)]
        db.close()
        queue_url = _queue(options.visibility)
        measured = _measure(options, running, org_ids, queue_url, Path(folder) / "made.json")
        rows, drift = _compare(running, org_ids, measured.made)
        span_s = _span_s(running)
    made = measured.made
    figures: dict[str, Cell] = {
        "events_per_s": round(made.events / span_s),
        "duplicates": made.duplicates,
        "kills": measured.kills,
        "drift": drift,
        "events": made.events,
        "sent_per_s": round((made.events + made.duplicates) / made.seconds),
        "messages": made.messages,
        "drain_s": rounded(measured.drain_s),
        "workers": options.workers,
        "events_per_core_s": round(made.events / (measured.workers_cpu_s + measured.postgres_cpu_s)),
        "workers_cpu_s": rounded(measured.workers_cpu_s),
        "postgres_cpu_s": rounded(measured.postgres_cpu_s),
        "emulator_cpu_s": rounded(measured.emulator_cpu_s),
        "producer_cpu_s": rounded(made.cpu_s),
    }
    command = results.command_line("metering", arguments)
    Result(bench="metering", figures=figures, rows=rows, command=command).save(options.results)
    for name, value in figures.items():
        print(f"{name:<20} {value}")
    headline = {name: figures[name] for name in ("events_per_s", "duplicates", "kills", "drift")}
    print("metering: " + " ".join(f"{name}={value}" for name, value in headline.items()))
    if drift:
        raise SystemExit(1)


@dataclass(frozen=True, slots=True)
class _Measured:
    made: Made
    kills: int
    drain_s: float
    workers_cpu_s: float
    postgres_cpu_s: float
    emulator_cpu_s: float


def _measure(
    options: argparse.Namespace, running: Emulated, org_ids: list[UUID], queue_url: str, made_file: Path
) -> _Measured:
    stop = _CONTEXT.Event()
    workers = _Workers(queue_url, stop, [])
    for _ in range(options.workers):
        workers.start()
    # Both count what their children used as well, those included that ended.
    parent = psutil.Process(psutil.Process(workers.alive[0].pid).ppid())
    parts = [parent, *running.processes()]
    before = [_cpu_s(part) for part in parts]
    # Its own command, so that what it uses isn't taken for the workers'.
    apart = multiprocessing.get_context("spawn")
    begun = apart.Event()
    load = (queue_url, org_ids, options.rate, options.seconds, options.seed, str(made_file), begun)
    producer = apart.Process(target=produce, args=load)
    producer.start()
    if not begun.wait(_STARTS_WITHIN_S):
        raise SystemExit("The producer didn't begin.")
    # What the last one killed had in hand comes back before the end.
    last_kill = time.monotonic() + max(0.6 * options.seconds, options.seconds - options.visibility - 3)
    while producer.is_alive():
        producer.join(random.uniform(0.4, 1.6) * options.kill_every)
        workers.check()
        if producer.is_alive() and (workers.kills == 0 or time.monotonic() < last_kill):
            workers.kill_one()
    if producer.exitcode != 0:
        raise SystemExit(f"The producer failed: exit code {producer.exitcode}.")
    ended = time.monotonic()
    _drain(queue_url, workers)
    drain_s = time.monotonic() - ended
    used = [_cpu_s(part) - was for part, was in zip(parts, before, strict=True)]
    stop.set()
    for process in workers.alive:
        process.join()
    return _Measured(Made.read(made_file), workers.kills, drain_s, *used)


def _cpu_s(process: psutil.Process) -> float:
    """Return the processor seconds of a process and all it has started, living or dead."""
    living = sum(_cpu_s(child) for child in process.children())
    times = process.cpu_times()
    return float(times.user + times.system + times.children_user + times.children_system + living)


def _drain(queue_url: str, workers: _Workers) -> None:
    deadline = time.monotonic() + _DRAINS_WITHIN_S
    sqs = aws.client("sqs")
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    while any(
        int(count)
        for count in sqs.get_queue_attributes(QueueUrl=queue_url, AttributeNames=names)["Attributes"].values()
    ):
        workers.check()
        if time.monotonic() > deadline:
            raise SystemExit(f"The queue isn't empty after {_DRAINS_WITHIN_S:.0f} s.")
        time.sleep(0.2)


def _compare(running: Emulated, org_ids: list[UUID], made: Made) -> tuple[list[dict[str, Cell]], int]:
    """Return what was made and counted by org and kind, and the sum of all differences, charges included."""
    rows: list[dict[str, Cell]] = []
    drift = 0
    with psycopg.connect(running.superuser_url, row_factory=dict_row) as connection:
        found = connection.execute(_COUNTED, (org_ids,)).fetchall()
        charged = {str(row["org_id"]): row["charged"] for row in connection.execute(_CHARGED, (org_ids,))}
    counted = {(str(row["org_id"]), row["kind"]): row for row in found}
    spent: Counter[str] = Counter()
    for org_id, kind in sorted(made.sums.keys() | counted.keys()):
        wanted = made.sums.get((org_id, kind), (0, 0, 0))
        row = counted.get((org_id, kind), {"events": 0, "quantity": 0, "cost_microusd": 0})
        got = (row["events"], row["quantity"], row["cost_microusd"])
        drift += sum(abs(one - other) for one, other in zip(wanted, got, strict=True))
        spent[org_id] += wanted[2]
        names = ("events", "quantity", "cost_microusd")
        rows.append(
            {"org": org_id, "kind": kind}
            | dict(zip(names, wanted, strict=True))
            | {f"counted_{name}": value for name, value in zip(names, got, strict=True)}
        )
    drift += sum(abs(cost - charged.get(org_id, 0)) for org_id, cost in spent.items())
    return rows, drift


def _span_s(running: Emulated) -> float:
    with psycopg.connect(running.superuser_url, row_factory=dict_row) as connection:
        row = connection.execute(_SPAN).fetchone()
    assert row is not None
    return float((row["last"] - row["first"]).total_seconds())


def _org(number: int) -> UUID:
    org_id = ids.new()
    system = Caller.system(org_id, request_id="bench")
    with db.tenant(system) as tx:
        orgs.create_org(tx, system, org_id=org_id, name=f"Bench {number}")
        billing.grant(tx, system, amount_microusd=_CREDITS, source_id="bench", reason="to measure with")
    return org_id


def _queue(visibility_s: int) -> str:
    created = aws.client("sqs").create_queue(
        QueueName=settings.usage_queue(), Attributes={"VisibilityTimeout": str(visibility_s)}
    )
    return str(created["QueueUrl"])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench.metering", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    # A little above what is to be shown: the time from the last message to its commit counts as well.
    parser.add_argument("--rate", type=int, default=10_300, help="new events in a second (default 10,300)")
    parser.add_argument("--seconds", type=float, default=60, help="how long they are sent (default 60)")
    parser.add_argument("--workers", type=int, default=2, help="processes that empty the queue (default 2)")
    parser.add_argument("--kill-every", type=float, default=5, help="seconds from kill to kill, about (default 5)")
    parser.add_argument("--visibility", type=int, default=10, help="seconds until a message comes back (default 10)")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 2**32, help="of load and kills (default: new)")
    parser.add_argument("--results", type=Path, default=results.RESULTS, help="where the JSON goes")
    return parser


if __name__ == "__main__":
    main(sys.argv[1:])
