"""The measurement of the gateway runs with our own half, and its last line keeps the shape that programs read."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
LAST_LINE = re.compile(
    r"gateway: overhead_p50_ms=([\d.]+) rps_per_core=([\d.]+) litellm_overhead_p50_ms=\S+ litellm_rps_per_core=\S+"
    r" ratio=\S+"
)


def test_our_gateway_is_measured_with_its_accounting_and_the_last_line_keeps_its_shape() -> None:
    command = [sys.executable, "-m", "bench.gateway", "--only", "ours", "--seconds", "0.2", "--rounds", "1"]
    done = subprocess.run([*command, "--calls", "20"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2_000:]
    told = LAST_LINE.fullmatch(done.stdout.splitlines()[-1])
    assert told is not None, done.stdout[-500:]
    assert float(told[1]) > 0
    assert float(told[2]) > 0
