"""The model gateway beside LiteLLM's proxy: what each adds to a provider that answers at once, on the same machine.

Both stand before the same stub, with one worker each; a load generator in a process of its own asks them in turn with
1, 16 and 64 clients, and the stub itself, whose times are the floor. Overheads are what is above the floor;
`rps_per_core` is how many requests the processor time of one core suffices for, whoever else used the machine. A
single answer that isn't the stub's ends the measurement.
"""

import argparse
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

from bench import results
from bench.gateway import stub
from bench.gateway.litellm_proxy import litellm
from bench.gateway.load import generator
from bench.gateway.measuring import Case, Measured, Memory, Target, measure, measure_memory
from bench.gateway.ours import ours
from bench.results import Cell, Result, rounded
from local.terminal import Terminal

type _Start = Callable[[str, Terminal], AbstractContextManager[Target]]

OURS, LITELLM = "ours", "litellm"
_CALLS = 10_000
_QUICK = {"seconds": 1.0, "rounds": 2, "calls": 500}


def main(arguments: Sequence[str]) -> None:
    options = _options(arguments)
    # So that what was started is stopped then as well.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    terminal = Terminal()
    names = [options.only] if options.only else [LITELLM, OURS]
    measured, memories = _measure([_start(name) for name in names], options, terminal)
    rows = [each.row() for each in measured]
    figures = _figures(measured, memories)
    if not options.only:
        command = results.command_line("gateway", arguments)
        Result(bench="gateway", figures=figures, rows=rows, command=command).save(options.results)
    _show(rows, memories)
    headline = ("overhead_p50_ms", "rps_per_core", "litellm_overhead_p50_ms", "litellm_rps_per_core", "ratio")
    print("gateway: " + " ".join(f"{name}={figures.get(name, 'none')}" for name in headline))


def _start(name: str) -> _Start:
    return litellm if name == LITELLM else ours


def _measure(
    starts: Sequence[_Start], options: argparse.Namespace, terminal: Terminal
) -> tuple[list[Measured], list[Memory]]:
    with ExitStack() as running:
        url, pid = running.enter_context(stub.stub())
        asking = running.enter_context(generator())
        floor = Target(name="floor", url=url, key=stub.KEY, model=stub.MODEL, pids=(pid,))
        targets = [running.enter_context(start(url, terminal)) for start in starts]
        memories = [measure_memory(asking, target, calls=options.calls, terminal=terminal) for target in targets]
        measured = measure(asking, floor, targets, seconds=options.seconds, rounds=options.rounds, terminal=terminal)
    return measured, memories


def _figures(measured: list[Measured], memories: list[Memory]) -> dict[str, Cell]:
    """Return the headline figures; LiteLLM's carry its name, ours none."""
    figures: dict[str, Cell] = {}
    best: dict[str, float] = {}
    for memory in memories:
        prefix = _prefix(memory.target)
        mine = [each for each in measured if each.target == memory.target]
        by_case = {each.case: each for each in mine}
        best[memory.target] = max(each.rps_per_core for each in mine if not each.case.stream)
        alone = by_case[Case(1)]
        streamed = by_case[Case(1, stream=True)]
        figures |= {
            f"{prefix}overhead_p50_ms": rounded(alone.overhead("p50_ms")),
            f"{prefix}overhead_p95_ms": rounded(alone.overhead("p95_ms")),
            f"{prefix}rps_per_core": rounded(best[memory.target]),
            f"{prefix}first_overhead_p50_ms": rounded(streamed.overhead("first_p50_ms")),
            f"{prefix}streams_per_core": rounded(max(each.rps_per_core for each in mine if each.case.stream)),
            f"{prefix}rss_mb": rounded(memory.before_mb),
            f"{prefix}rss_after_calls_mb": rounded(memory.after_mb),
            "calls": memory.calls,
        }
    figures["floor_p50_ms"] = next(
        rounded(each.median("p50_ms")) for each in measured if each.target == "floor" and each.case == Case(1)
    )
    if OURS in best and LITELLM in best:
        figures["ratio"] = rounded(best[OURS] / best[LITELLM])
    return figures


def _prefix(target: str) -> str:
    return "" if target == OURS else f"{target}_"


def _show(rows: list[dict[str, Cell]], memories: list[Memory]) -> None:
    widths = {name: max(len(name), *(len(_text(row[name])) for row in rows)) for name in rows[0]}
    print("\n" + "  ".join(f"{name:>{width}}" for name, width in widths.items()))
    for row in rows:
        print("  ".join(f"{_text(row[name]):>{width}}" for name, width in widths.items()))
    print()
    for memory in memories:
        print(f"{memory.target}: {memory.before_mb:.0f} MB, {memory.after_mb:.0f} MB after {memory.calls:,} calls")


def _text(cell: Cell) -> str:
    return "" if cell is None else str(cell)


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.quick:
        parser.set_defaults(**_QUICK)
        options = parser.parse_args(arguments)
    return options


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench.gateway", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=4, help="how long each run of a case lasts (default 4)")
    parser.add_argument("--rounds", type=int, default=5, help="runs of each case, of which the median (default 5)")
    parser.add_argument("--calls", type=int, default=_CALLS, help=f"calls for the memory (default {_CALLS:,})")
    quick = " ".join(f"--{name} {value:g}" for name, value in _QUICK.items())
    parser.add_argument("--quick", action="store_true", help=f"other defaults, for a first impression: {quick}")
    parser.add_argument("--only", choices=[OURS, LITELLM], help="measure one of them; nothing is saved then")
    parser.add_argument("--results", type=Path, default=results.RESULTS, help="where the JSON goes")
    return parser


if __name__ == "__main__":
    main(sys.argv[1:])
