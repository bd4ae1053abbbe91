"""The measurement of the credit ledger runs, finds no drift, and its last line keeps the shape that programs read."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
LAST_LINE = re.compile(r"ledger: ops=400 drift=0 hold_settle_per_s_1=[0-9.]+ _16=[0-9.]+ _64=[0-9.]+")


@pytest.mark.timeout(400)
def test_the_ledgers_bench_proves_no_drift_and_its_last_line_keeps_its_shape(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "bench.ledger", "--operations", "400", "--seconds", "0.3", "--rounds", "1"]
    done = subprocess.run([*command, "--results", str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert LAST_LINE.fullmatch(done.stdout.splitlines()[-1])
    written = json.loads((tmp_path / "ledger.json").read_text())
    assert written["command"].startswith("uv run python -m bench.ledger")
    assert (written["figures"]["ops"], written["figures"]["drift"]) == (400, 0)
    assert [(row["clients"], row["orgs"]) for row in written["rows"]] == [
        (clients, orgs) for orgs in (1, 100) for clients in (1, 16, 64)
    ]
    assert all(row["bare_per_s"] > 0 and row["ratio"] > 0 for row in written["rows"])
