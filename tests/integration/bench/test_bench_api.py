"""The measurements run, and their last line keeps the shape that programs read."""

import json
import re
import subprocess
import sys
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.http_server import listening

ROOT = Path(__file__).resolve().parents[3]
LAST_LINE = re.compile(r"api: p50_ms=[0-9.]+ p95_ms=[0-9.]+ sql_ratio=[0-9.]+ rps_16=[0-9.]+")


def _door(request: Request) -> Response:
    """Stand in for a home's front door: what is tested here is who asks."""
    allowed = request.headers["authorization"] == "Bearer ry_live_key"
    return JSONResponse({"data": []}, 200 if allowed else 401)


def test_the_last_line_of_the_api_bench_keeps_its_shape(tmp_path: Path) -> None:
    with listening(Starlette(routes=[Route("/v1/agents", _door)])) as url:
        command = [sys.executable, "-m", "bench.api", "--iterations", "2", "--seconds", "0.3"]
        target = ["--clients", "1", "16", "--url", url, "--key", "ry_live_key", "--results", str(tmp_path)]
        done = subprocess.run([*command, *target], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert LAST_LINE.fullmatch(done.stdout.splitlines()[-1])
    written = json.loads((tmp_path / "api.json").read_text())
    assert written["date"]
    assert written["command"].startswith("uv run python -m bench.api")
    assert {"p50_ms", "p95_ms", "sql_ratio", "rps_1", "rps_16"} == written["figures"].keys()
    assert all(row["statements"] >= 3 for row in written["rows"] if "sql_ratio" in row)


def test_a_front_door_that_refuses_everyone_fails_the_bench(tmp_path: Path) -> None:
    with listening(Starlette(routes=[Route("/v1/agents", _door)])) as url:
        command = [sys.executable, "-m", "bench.api", "--iterations", "1", "--seconds", "0.3"]
        target = ["--clients", "2", "--url", url, "--key", "ry_live_other", "--results", str(tmp_path)]
        done = subprocess.run([*command, *target], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "401" in done.stderr
    assert not (tmp_path / "api.json").exists()
