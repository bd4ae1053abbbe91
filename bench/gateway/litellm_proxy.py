"""LiteLLM's proxy as its own pages tell to run it in production, in front of the stub: one worker, no database.

Its environment is made on first use, from the pinned requirements beside this file. Of the ways to run one worker this
was the fastest: uvicorn with uvloop and httptools, and its default transport (aiohttp) towards the provider. Granian
(`--run_granian`) was no faster, the transport of httpx slower; `aiohttp_openai/` can't stream, and the core in Rust
has no route for chats of an OpenAI model.
Sources: docs.litellm.ai/docs/proxy/prod, /docs/proxy/server_tuning, /docs/benchmarks.
"""

import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import httpx

from bench.gateway import stub
from bench.gateway.measuring import Target
from bench.results import REPOSITORY
from local.terminal import Terminal

_REQUIREMENTS: Final = Path(__file__).resolve().parent / "litellm.txt"
_ENVIRONMENT: Final = REPOSITORY / ".runyard" / "litellm-venv"
_KEY: Final = "sk-bench-litellm"
_STARTS_WITHIN_S: Final = 180.0
_STOPS_WITHIN_S: Final = 10.0
_LOG_SHOWN_BYTES: Final = 4000


@contextmanager
def litellm(provider_url: str, terminal: Terminal) -> Iterator[Target]:
    """Yield LiteLLM's proxy, ready, with one model: the stub's. Raises `SystemExit` when it doesn't come up."""
    _install(terminal)
    with tempfile.TemporaryDirectory(prefix="runyard-bench-litellm-") as name:
        folder = Path(name)
        (folder / "config.yaml").write_text(json.dumps(_config(provider_url)))
        port = _free_port()
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                [
                    *(str(_ENVIRONMENT / "bin" / "litellm"), "--config", "config.yaml"),
                    *("--host", stub.LOOPBACK, "--port", str(port), "--num_workers", "1"),
                ],
                cwd=folder,
                env=_variables(folder),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        try:
            url = f"http://{stub.LOOPBACK}:{port}"
            with terminal.step("starting LiteLLM's proxy", done="LiteLLM's proxy is ready"):
                _wait(url, process, folder / "log")
            yield Target(name="litellm", url=url, key=_KEY, model=stub.MODEL, pids=(process.pid,))
        finally:
            _stop(process)


def _config(provider_url: str) -> dict[str, object]:
    provider = {"model": f"openai/{stub.MODEL}", "api_base": f"{provider_url}/v1", "api_key": stub.KEY}
    return {
        "model_list": [{"model_name": stub.MODEL, "litellm_params": provider}],
        "general_settings": {"master_key": _KEY, "disable_error_logs": True, "proxy_batch_write_at": 60},
        "litellm_settings": {
            "set_verbose": False,
            "json_logs": True,
            "telemetry": False,
            "request_timeout": 600,
            "num_retries": 0,
            "callbacks": [],
        },
        "router_settings": {"routing_strategy": "simple-shuffle"},
    }


def _variables(folder: Path) -> dict[str, str]:
    """Return all that it is told: nothing of the user's, and nothing that sends it to the internet."""
    return {
        "PATH": f"{_ENVIRONMENT / 'bin'}:{os.defpath}",
        "HOME": str(folder),
        "LANG": "C.UTF-8",
        "LITELLM_MODE": "PRODUCTION",
        "LITELLM_LOG": "ERROR",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    }


def _install(terminal: Terminal) -> None:
    """Make its environment on first use and whenever the pinned requirements change."""
    wanted = hashlib.sha256(_REQUIREMENTS.read_bytes() + sys.version.encode()).hexdigest()
    stamp = _ENVIRONMENT / "made-from"
    if stamp.exists() and stamp.read_text() == wanted:
        return
    python = str(_ENVIRONMENT / "bin" / "python")
    install = ("--quiet", "--compile-bytecode", "--python", python, "--require-hashes")
    with terminal.step("installing LiteLLM's proxy", done="LiteLLM's proxy was installed"):
        _uv("venv", "--quiet", "--clear", "--no-project", "--python", sys.executable, str(_ENVIRONMENT))
        _uv("pip", "install", *install, "--requirement", str(_REQUIREMENTS))
    stamp.write_text(wanted)


def _uv(*arguments: str) -> None:
    uv = os.environ.get("UV") or shutil.which("uv")
    if uv is None:
        raise SystemExit("uv is not on the PATH: see https://docs.astral.sh/uv.")
    done = subprocess.run([uv, *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"LiteLLM's environment could not be made: {done.stderr.strip()}")


def _free_port() -> int:
    with socket.socket() as held:
        held.bind((stub.LOOPBACK, 0))
        return int(held.getsockname()[1])


def _wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _STARTS_WITHIN_S
    while not _is_ready(url):
        if process.poll() is not None or time.monotonic() > deadline:
            end = log.read_bytes()[-_LOG_SHOWN_BYTES:].decode(errors="replace")
            raise SystemExit(f"LiteLLM's proxy didn't start (exit code {process.returncode}):\n{end}")
        time.sleep(0.2)


def _is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health/readiness", timeout=5, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_STOPS_WITHIN_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
