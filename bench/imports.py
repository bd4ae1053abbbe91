"""Import time of every handler above an empty Python, and the heavy packages it brings along: the cost of a cold start.

Each import happens in a fresh interpreter, in turn with an empty one; files have been read and compiled before.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from bench import results
from bench.results import REPOSITORY, Cell, Result, percentile, rounded

_HEAVY = (
    "alembic", "aws_lambda_powertools", "aws_xray_sdk", "boto3", "botocore", "fastapi", "httpx", "mangum", "numpy",
    "openai", "psycopg", "pydantic", "redis", "sqlalchemy",
)  # fmt: skip
_PROBE = "import sys, {module}; print(len(sys.modules), *{{name.partition('.')[0] for name in sys.modules}})"
# As at home and in AWS where tracing is off; nothing else is needed to import a handler.
_ENVIRONMENT = {"PATH": "/usr/bin:/bin", "POWERTOOLS_TRACE_DISABLED": "1"}


def main(arguments: Sequence[str]) -> None:
    options = _parser().parse_args(arguments)
    modules = [module for module in handlers() if options.only in module]
    rows = [row(module, options.repetitions) for module in modules]
    rows.sort(key=lambda row: float(row["import_ms"] or 0), reverse=True)
    times = [float(row["import_ms"] or 0) for row in rows]
    figures: dict[str, Cell] = {
        "handlers": len(rows),
        "median_ms": rounded(median(times)),
        "p95_ms": rounded(percentile(times, 95)),
        "slowest_ms": rounded(max(times)),
    }
    Result(bench="imports", figures=figures, rows=rows, command=results.command_line("imports", arguments)).save(
        options.results
    )
    for row in rows:
        print(f"{row['handler']:<34}{row['import_ms']:>7} ms  {row['modules']:>5} modules  {row['heavy']}")
    print("imports: " + " ".join(f"{name}={value}" for name, value in figures.items()))


def handlers() -> list[str]:
    """Return the modules of all functions."""
    files = (REPOSITORY / "functions").rglob("*.py")
    return sorted(
        ".".join(file.relative_to(REPOSITORY).with_suffix("").parts) for file in files if file.name != "__init__.py"
    )


def row(module: str, repetitions: int) -> dict[str, Cell]:
    count, *packages = _python(_PROBE.format(module=module)).split()  # compiles what isn't compiled yet
    above_empty = []
    for _ in range(repetitions):
        empty = _python_ms("pass")
        above_empty.append(_python_ms(f"import {module}") - empty)
    return {
        "handler": module.removeprefix("functions."),
        "import_ms": rounded(median(above_empty)),
        "modules": int(count),
        "heavy": " ".join(name for name in _HEAVY if name in packages),
    }


def _python_ms(program: str) -> float:
    began = time.perf_counter()
    _python(program)
    return (time.perf_counter() - began) * 1000


def _python(program: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=REPOSITORY, env=_ENVIRONMENT, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise SystemExit(f"`{program}` failed:\n{done.stderr}")
    return done.stdout


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench.imports", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repetitions", type=int, default=3, help="fresh interpreters per handler (default 3)")
    parser.add_argument("--only", default="", help="only handlers whose module has this in its name")
    parser.add_argument("--results", type=Path, default=results.RESULTS, help="where the JSON goes")
    return parser


if __name__ == "__main__":
    main(sys.argv[1:])
