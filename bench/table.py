"""Prints what the measurements in bench/results say; measures nothing."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench import results
from bench.results import Result, read

_WIDE = 200


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.table", description=__doc__)
    parser.add_argument("--results", type=Path, default=results.RESULTS, help="where the JSON is")
    folder = parser.parse_args(arguments).results
    files = sorted(folder.glob("*.json"))
    if not files:
        raise SystemExit(f"There are no results in {folder}; `make bench` makes some.")
    # Where nobody watches there is no width to keep to.
    console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else _WIDE)
    for file in files:
        _show(read(file), console)


def _show(result: Result, console: Console) -> None:
    where = f"{result.system}, {result.cores} cores, load {result.load_average_1m}, Python {result.python}"
    console.print(f"\n[bold]{result.bench}[/bold]  {result.date}  commit {result.commit}  {where}")
    console.print(result.command, markup=False)
    console.print("  ".join(f"{name}={value}" for name, value in result.figures.items()), markup=False)
    if result.rows:
        console.print(_table(result))


def _table(result: Result) -> Table:
    names = list(dict.fromkeys(name for row in result.rows for name in row))
    table = Table(box=None, pad_edge=False)
    for name in names:
        is_number = all(not isinstance(row.get(name), str) for row in result.rows)
        table.add_column(name, justify="right" if is_number else "left", overflow="fold")
    for row in result.rows:
        table.add_row(*("" if row.get(name) is None else str(row[name]) for name in names))
    return table


if __name__ == "__main__":
    main(sys.argv[1:])
