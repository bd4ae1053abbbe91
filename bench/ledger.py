"""The credit ledger: that it is right under kills, and what a hold and its settlement take.

First, 10,000 mixed operations on four tenants by eight processes, of which some are killed at any statement and from
outside; what they didn't acknowledge is delivered again. A model explains every entry and every answer; `drift` is by
how many micro-dollars the accounts differ from it, plus one for whatever it can't explain.

Then pairs of a hold and its settlement, two transactions, with 1, 16 and 64 clients on one org (one row that all of
them lock) and over 100 orgs. In turn with them the floor: a bare transaction of two statements, an UPDATE … RETURNING
and an INSERT, by as many clients on one row and over 100. `ratio` is a pair in such transactions: 2 would be as fast.
"""

import argparse
import os
import random
import sys
import time
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from statistics import median
from uuid import UUID

import psycopg

from bench import results
from bench.in_process import platform
from bench.ledger_clients import BARE_TABLES, Job, Pace, measure
from bench.results import Cell, Result, rounded
from shared.billing import service as billing
from shared.kernel import clock, db, ids
from shared.kernel.caller import Caller
from shared.orgs import service as orgs
from tests.integration.billing.ledger_machine import Unexplained, compare, drift_from, entries_after, explain
from tests.integration.billing.ledger_mix import Mix
from tests.integration.billing.ledger_model import Model
from tests.integration.billing.ledger_worker import Crew, Outcome, Task, random_fuse

_CLIENTS = (1, 16, 64)
_TENANTS = 4
_PROCESSES = 8
_AT_ONCE = 400
_FUSES = 0.02
_RICH = 10**13


def main(arguments: Sequence[str]) -> int:
    options = _parser().parse_args(arguments)
    seed = random.randrange(2**32) if options.seed is None else options.seed
    with platform(durable=True):
        environment = {
            name: value for name, value in os.environ.items() if name.startswith(("RUNYARD_", "POWERTOOLS_"))
        }
        sound = _prove(options.operations, seed, environment)
        rows = _race(options.seconds, options.rounds, environment)
    figures = sound | {f"hold_settle_per_s_{row['clients']}{_over(row)}": row["hold_settle_per_s"] for row in rows}
    figures |= {f"ratio_{row['clients']}{_over(row)}": row["ratio"] for row in rows}
    Result(bench="ledger", figures=figures, rows=rows, command=results.command_line("ledger", arguments)).save(
        options.results
    )
    shown = " ".join(f"_{clients}={figures[f'hold_settle_per_s_{clients}']}" for clients in _CLIENTS)
    print(f"ledger: ops={sound['ops']} drift={sound['drift']} hold_settle_per_s{shown}")
    return 1 if sound["drift"] else 0


def _prove(operations: int, seed: int, environment: dict[str, str]) -> dict[str, Cell]:
    """Do the operations and return how it went."""
    chance = random.Random(seed)
    mixes = [Mix(_org(n), random.Random(chance.random())) for n in range(_TENANTS)]
    models = {mix.org_id: Model() for mix in mixes}
    now, done, drift = clock.now(), 0, 0
    began = time.monotonic()
    with Crew(environment, _PROCESSES) as crew:
        while done < operations:
            asked = [chance.choice(mixes).next(now) for _ in range(min(_AT_ONCE, operations - done))]
            tasks = [
                Task(n, operation, random_fuse(chance) if chance.random() < _FUSES else None)
                for n, operation in enumerate(asked)
            ]
            outcomes = crew.do(tasks, kill_after_s=[chance.uniform(0, 0.3)])
            for org_id, model in models.items():
                mine = [task for task in tasks if task.operation.org_id == org_id]
                drift += _drift(model, mine, outcomes, org_id=org_id, at=now)
            done += len(tasks)
            now += timedelta(seconds=chance.randint(1, 20))
        seconds = time.monotonic() - began
        print(f"{done} operations by {_PROCESSES} processes, {crew.kills} of them killed, seed {seed}: drift {drift}")
        return {
            "ops": done,
            "drift": drift,
            "kills": crew.kills,
            "seed": seed,
            "entries": sum(model.entries for model in models.values()),
            "checked_ops_per_s": rounded(done / seconds),
        }


def _drift(model: Model, tasks: Sequence[Task], outcomes: dict[int, Outcome], *, org_id: UUID, at: datetime) -> int:
    try:
        explain(model, tasks, outcomes, entries_after(org_id, model.entries), at=at)
        compare(model, org_id)
    except Unexplained as wrong:
        print(f"{ids.show('org', org_id)}: {wrong}", file=sys.stderr)
        return 1 + sum(abs(difference) for difference in drift_from(model, org_id).values())
    return 0


def _race(seconds: float, rounds: int, environment: dict[str, str]) -> list[dict[str, Cell]]:
    """Return a row for each number of clients on one org, then over 100."""
    with psycopg.connect(environment["RUNYARD_MIGRATION_DATABASE_URL"]) as owner:
        owner.execute(BARE_TABLES)
    hundred = [_org(n) for n in range(100)]
    for org_id in hundred:
        caller = Caller.system(org_id)
        with db.tenant(caller) as tx:
            billing.grant(tx, caller, amount_microusd=_RICH, source_id="bench", reason="to measure with")
    rows: list[dict[str, Cell]] = []
    for tenants in (hundred[:1], hundred):
        for clients in _CLIENTS:
            paces: dict[bool, list[Pace]] = {False: [], True: []}
            for _ in range(rounds):
                for bare in (False, True):
                    paces[bare].append(measure(Job(bare, tenants, seconds), clients, environment))
            rows.append(_row(clients, len(tenants), paces[False], paces[True]))
            print("  ".join(f"{name}={value}" for name, value in rows[-1].items()), flush=True)
    return rows


def _row(clients: int, orgs: int, pairs: list[Pace], bare: list[Pace]) -> dict[str, Cell]:
    pairs_per_s = median(pace.per_s for pace in pairs)
    bare_per_s = median(pace.per_s for pace in bare)
    return {
        "clients": clients,
        "orgs": orgs,
        "hold_settle_per_s": rounded(pairs_per_s),
        "p50_ms": rounded(median(pace.p50_ms for pace in pairs)),
        "p95_ms": rounded(median(pace.p95_ms for pace in pairs)),
        "bare_per_s": rounded(bare_per_s),
        "bare_p50_ms": rounded(median(pace.p50_ms for pace in bare)),
        "ratio": rounded(bare_per_s / pairs_per_s),
    }


def _over(row: dict[str, Cell]) -> str:
    return "" if row["orgs"] == 1 else f"_over_{row['orgs']}_orgs"


def _org(number: int) -> UUID:
    system = Caller.system(ids.new(), request_id="bench")
    with db.tenant(system) as tx:
        orgs.create_org(tx, system, org_id=system.org_id, name=f"Ledger {number}")
    return system.org_id


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench.ledger", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--operations", type=int, default=10_000, help="mixed operations to prove (default 10000)")
    parser.add_argument("--seed", type=int, help="of the operations; a fresh one by default")
    parser.add_argument("--seconds", type=float, default=3, help="of each measurement (default 3)")
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each, the median counts (default 3)")
    parser.add_argument("--results", type=Path, default=results.RESULTS, help="where the JSON goes")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
