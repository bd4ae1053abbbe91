"""How long a home takes: to come up for the first time, again, to take a change of the code, to do the demo.

Everything happens in a copy of the repository with a home of its own. Cold means: no state, no emulator environment, no
built layers; packages come from uv's cache if they are in it.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import results
from bench.homes import fresh_home
from bench.results import REPOSITORY, Cell, Result, rounded
from local.settings import Home

_NOT_COPIED = (".git", ".venv", ".runyard", "node_modules", "cdk.out", "__pycache__", ".*_cache", ".hypothesis")
_LINKED = (".venv", "node_modules")
_CHANGED = Path("shared") / "agents" / "service.py"
_STAGE = re.compile(r"^(?P<what>\D.*?)(?: on [0-9.:]+)? in (?P<seconds>[0-9.]+) s$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Done:
    """One command: how long it took, and how long the stages took that it tells of."""

    seconds: float
    stages: dict[str, float]
    last_line: str


def main(arguments: Sequence[str]) -> None:
    options = _parser().parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="runyard-bench-") as folder, fresh_home() as home:
        tree = _copy(Path(folder) / "runyard")
        done = {"cold_up": _run(tree, home, "up")}
        done["first_demo"] = _run(tree, home, "demo")
        done["second_demo"] = _run(tree, home, "demo")
        done["up_when_up"] = _run(tree, home, "up")
        _change(tree / _CHANGED)
        done["redeploy"] = _run(tree, home, "deploy")
        _run(tree, home, "down")
        done["warm_up"] = _run(tree, home, "up")
    figures: dict[str, Cell] = {f"{name}_s": rounded(each.seconds) for name, each in done.items()}
    first_deploy = done["cold_up"].stages.get("deploying the stacks")
    figures["first_deploy_s"] = None if first_deploy is None else rounded(first_deploy)
    rows: list[dict[str, Cell]] = [
        {"command": name, "stage": stage, "seconds": seconds}
        for name, each in done.items()
        for stage, seconds in each.stages.items()
    ]
    Result(bench="home", figures=figures, rows=rows, command=results.command_line("home", arguments)).save(
        options.results
    )
    print("home: " + " ".join(f"{name}={value}" for name, value in figures.items()))


def _copy(tree: Path) -> Path:
    """Copy what is the project's own; what was installed is shared."""
    shutil.copytree(REPOSITORY, tree, symlinks=True, ignore=shutil.ignore_patterns(*_NOT_COPIED))
    for name in _LINKED:
        (tree / name).symlink_to(REPOSITORY / name)
    return tree


def _change(file: Path) -> None:
    """Change the code that every function is deployed with."""
    with file.open("a") as source:
        source.write(f"\n\nMEASURED_AT = {time.time()}\n")


def _run(tree: Path, home: Home, command: str) -> Done:
    print(f"local {command} …", flush=True)
    # Without the user's model key: the demo of a real model would be another measurement.
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OPENAI_", "RUNYARD_"))}
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "local", command],
        cwd=tree,
        env=kept | home.part_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    seconds = time.perf_counter() - began
    if done.returncode != 0:
        raise SystemExit(f"`local {command}` failed:\n{done.stdout}\n{done.stderr}")
    lines = done.stdout.strip().splitlines()
    print(f"  {seconds:.1f} s  {lines[-1]}", flush=True)
    stages = {found["what"]: float(found["seconds"]) for found in _STAGE.finditer(done.stdout)}
    return Done(seconds, stages, lines[-1])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench.home", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--results", type=Path, default=results.RESULTS, help="where the JSON goes")
    return parser


if __name__ == "__main__":
    main(sys.argv[1:])
