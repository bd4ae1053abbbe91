"""The measurement of the authorizer runs, and its last line keeps the shape that programs read."""

import json
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
LAST_LINE = re.compile(
    r"authorizer: key_p50_ms=\S+ token_warm_p50_ms=\S+ token_cold_p50_ms=\S+ redis_get_p50_ms=\S+ select_p50_ms=\S+"
    r" import_ms=\S+"
)


def test_the_last_line_of_the_authorizers_bench_keeps_its_shape(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "bench.authorizer", "--iterations", "3", "--repetitions", "1"]
    done = subprocess.run([*command, "--results", str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert LAST_LINE.fullmatch(done.stdout.splitlines()[-1])
    written = json.loads((tmp_path / "authorizer.json").read_text())
    assert written["figures"]["hostile_p50_ms"] > 0
    assert written["command"].startswith("uv run python -m bench.authorizer")
    assert {"key", "token_warm", "token_cold", "redis_get", "select"} <= {row["case"] for row in written["rows"]}
