"""What the platform adds to each step of a run: all of its time but the model's and the tools'.

An agent thinks with the home's model and runs a command per step in its sandbox. A step lasts from its claim to the
claim of the next (the last one: to the end of the run). From that are taken the model's time, as the gateway saw it,
and the tools', from their start to their recorded end. What is left is the platform: state machine, function calls,
queries, checkpoints. The time before the first step is the start of machine and sandbox.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import Any, LiteralString

import psycopg
from psycopg.rows import dict_row

from bench import results
from bench.homes import customer, home
from bench.results import Cell, Result, percentile, rounded
from local.demo import Api
from local.parts.postgres import superuser_url
from local.settings import Home
from shared.kernel import ids

_STEPS: LiteralString = """
    SELECT step.step_no, step.started_at, call.latency_ms AS model_ms,
           coalesce(lead(step.started_at) OVER (ORDER BY step.step_no), run.ended_at) AS ended_at
      FROM run_steps step
      JOIN runs run ON run.id = step.run_id
      JOIN inference_calls call ON call.source_id = %(shown_id)s || ':' || step.step_no
     WHERE step.run_id = %(run_id)s
     ORDER BY step.step_no
"""
_TOOLS: LiteralString = """
    SELECT step_no, started_at, ended_at FROM run_tool_calls WHERE run_id = %(run_id)s ORDER BY started_at
"""
_WITHIN_S = 300


def main(arguments: Sequence[str]) -> None:
    options = _parser().parse_args(arguments)
    rows: list[dict[str, Cell]] = []
    starts_ms: list[float] = []
    with home() as running, customer(running) as api:
        for number in range(1, options.runs + 1):
            run = _run(api, options.steps)
            steps = _steps(running, run["id"])
            began, first = datetime.fromisoformat(run["created_at"]), steps[0]["started_at"]
            starts_ms.append((first - began).total_seconds() * 1000)
            rows += [_row(number, step) for step in steps]
    platform_ms = [float(row["platform_ms"] or 0) for row in rows]
    figures: dict[str, Cell] = {
        "platform_p50_ms": rounded(median(platform_ms)),
        "platform_p95_ms": rounded(percentile(platform_ms, 95)),
        "start_p50_ms": rounded(median(starts_ms)),
        "steps": len(rows),
        "runs": options.runs,
    }
    command = results.command_line("steps", arguments)
    Result(bench="steps", figures=figures, rows=rows, command=command).save(options.results)
    for row in rows:
        print("  ".join(f"{name}={value}" for name, value in row.items()))
    print("steps: " + " ".join(f"{name}={value}" for name, value in figures.items()))


def _run(api: Api, steps: int) -> dict[str, Any]:
    config = {"tools": ["sandbox.exec"], "max_steps": steps + 1}
    agent = api.post("/v1/agents", {"name": "Bench", "config": config})
    # Understood by the offline model; a real one just finds an unusual request.
    run = api.post(f"/v1/agents/{agent['id']}/runs", {"input": f"offline: steps {steps}"})
    deadline = time.monotonic() + _WITHIN_S
    while run["ended_at"] is None:
        if time.monotonic() > deadline:
            raise SystemExit(f"The run {run['id']} has not ended within {_WITHIN_S} s; it is {run['status']}.")
        time.sleep(0.5)  # seldom enough to leave the machine to the run
        run = api.get(f"/v1/runs/{run['id']}")
    if run["status"] != "succeeded":
        raise SystemExit(f"The run {run['id']} {run['status']}: {run.get('failure')}")
    return run


def _steps(home: Home, shown_id: str) -> list[dict[str, Any]]:
    """Return each step's start, end, model time and tool time, all read past the tenants' walls."""
    values = {"run_id": ids.read("run", shown_id), "shown_id": shown_id}
    with psycopg.connect(superuser_url(home), row_factory=dict_row) as connection:
        steps = connection.execute(_STEPS, values).fetchall()
        tools = connection.execute(_TOOLS, values).fetchall()
    for step in steps:
        calls = [(each["started_at"], each["ended_at"]) for each in tools if each["step_no"] == step["step_no"]]
        step["tool_ms"] = _covered_ms(calls)
    return steps


def _covered_ms(intervals: list[tuple[datetime, datetime]]) -> float:
    """Return the milliseconds in at least one of the intervals, given by start: tools of a step run side by side."""
    covered = 0.0
    until: datetime | None = None
    for start, end in intervals:
        begin = start if until is None else max(start, until)
        covered += max(0.0, (end - begin).total_seconds() * 1000)
        until = end if until is None else max(until, end)
    return covered


def _row(run: int, step: dict[str, Any]) -> dict[str, Cell]:
    wall_ms = (step["ended_at"] - step["started_at"]).total_seconds() * 1000
    return {
        "run": run,
        "step": step["step_no"],
        "wall_ms": rounded(wall_ms),
        "model_ms": step["model_ms"],
        "tool_ms": rounded(step["tool_ms"]),
        "platform_ms": rounded(wall_ms - step["model_ms"] - step["tool_ms"]),
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench.steps", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=10, help="rounds of model and tool in a run (default 10)")
    parser.add_argument("--runs", type=int, default=3, help="runs, one after the other (default 3)")
    parser.add_argument("--results", type=Path, default=results.RESULTS, help="where the JSON goes")
    return parser


if __name__ == "__main__":
    main(sys.argv[1:])
