"""The measurement of metering runs, loses nothing although its workers are killed, and keeps its last line's shape."""

import json
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
LAST_LINE = re.compile(r"metering: events_per_s=[0-9]+ duplicates=([0-9]+) kills=([0-9]+) drift=0")


def test_a_short_measurement_of_metering_ends_without_drift(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "bench.metering", "--seconds", "3", "--rate", "2000", "--kill-every", "1"]
    command += ["--visibility", "4", "--seed", "1", "--results", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = LAST_LINE.fullmatch(done.stdout.splitlines()[-1])
    assert found, done.stdout
    assert int(found[1]) > 0
    assert int(found[2]) > 0
    written = json.loads((tmp_path / "metering.json").read_text())
    assert written["command"].startswith("uv run python -m bench.metering")
    assert written["figures"]["events"] >= 6_000
    assert sum(row["counted_events"] for row in written["rows"]) == written["figures"]["events"]
    assert {row["kind"] for row in written["rows"]} >= {"tokens_input", "storage_byte_hours", "api_calls"}
