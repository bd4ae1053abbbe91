"""What a measurement leaves behind: one JSON file with its figures and all that is needed to repeat it."""

import json
import os
import platform
import shlex
import statistics
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
RESULTS = REPOSITORY / "bench" / "results"

type Cell = str | int | float | None


@dataclass(frozen=True, slots=True)
class Result:
    """The headline `figures` of one measurement and the `rows` behind them. A name ends in its unit."""

    bench: str
    figures: dict[str, Cell]
    rows: list[dict[str, Cell]]
    command: str
    date: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    commit: str = field(default_factory=lambda: _COMMIT)
    python: str = field(default_factory=platform.python_version)
    cores: int = field(default_factory=lambda: os.process_cpu_count() or 1)
    system: str = field(default_factory=lambda: f"{platform.system()} {platform.machine()}")
    # Others at work on the machine make every figure worse; ratios to a floor of the same run suffer least.
    load_average_1m: float = field(default_factory=lambda: round(os.getloadavg()[0], 1))

    def save(self, folder: Path = RESULTS) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / f"{self.bench}.json"
        file.write_text(json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n")
        return file


def read(file: Path) -> Result:
    return Result(**json.loads(file.read_text()))


def command_line(bench: str, arguments: Sequence[str]) -> str:
    return shlex.join(["uv", "run", "python", "-m", f"bench.{bench}", *arguments])


def commit() -> str:
    """Return the commit that was measured, with a + when the tree differs from it in anything but results."""
    asked = ["git", "-C", str(REPOSITORY)]
    head = subprocess.run([*asked, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    if head.returncode != 0:
        return "unknown"
    changed = ["status", "--porcelain", "--untracked-files=no", "--", ".", ":!bench/results"]
    status = subprocess.run([*asked, *changed], capture_output=True, text=True, check=False)
    return head.stdout.strip() + ("+" if status.stdout.strip() else "")


def percentile(values: Sequence[float], percent: int) -> float:
    """Return the value below which `percent` of the values lie."""
    if len(values) < 2:
        return values[0]
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


def rounded(value: float) -> float:
    """Return three digits: what is beyond them is noise."""
    return float(f"{value:.3g}")


# Asked when the measurement begins: the tree may move on while it runs.
_COMMIT: str = commit()
