"""The parts that are programs of `local`: the offline model, the Fargate stand-in and the front door."""

import os
import sys
from pathlib import Path
from typing import Final

import httpx

from local.parts.part import Part
from local.processes import Command
from local.settings import LOOPBACK, REPOSITORY, Home

_INHERITED: Final = ("PATH", "HOME", "LANG", "USER")
_LOCAL: Final = REPOSITORY / "local"


def _run_module(home: Home, module: str) -> Command:
    """Return how to run a module of ours: what it needs to find its place in the home, and no secret of the user's."""
    inherited = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    environment = inherited | home.part_environment() | home.aws_environment() | {"PYTHONUNBUFFERED": "1"}
    return Command((sys.executable, "-m", module), environment, REPOSITORY)


def _answers(port: int, path: str) -> bool:
    try:
        return httpx.get(f"http://{LOOPBACK}:{port}{path}", timeout=5, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


def _fargate_ready(home: Home) -> Path:
    return home.run / "fargate.ready"


def _prepare_fargate(home: Home) -> None:
    """Build the sandboxes' environment here, where a failure reaches the user's terminal."""
    from local.fargate.sandbox_environment import ensure_sandbox_environment

    _fargate_ready(home).unlink(missing_ok=True)
    ensure_sandbox_environment(home)


def _why_no_sandboxes(home: Home) -> str:
    """Return what the stand-in found missing on this machine; empty when it can start sandboxes."""
    reason = home.run / "fargate.reason"
    return reason.read_text().strip() if reason.exists() else ""


MODEL = Part(
    name="model",
    port=lambda home: home.ports.model,
    command=lambda home: _run_module(home, "local.offline_model"),
    is_ready=lambda home: _answers(home.ports.model, "/health"),
    sources=(_LOCAL / "offline_model",),
)

FARGATE = Part(
    name="fargate",
    command=lambda home: _run_module(home, "local.fargate"),
    prepare=_prepare_fargate,
    is_ready=lambda home: _fargate_ready(home).exists(),
    complaint=_why_no_sandboxes,
    sources=(_LOCAL / "fargate", REPOSITORY / "sandbox"),
)

FRONT = Part(
    name="front",
    port=lambda home: home.ports.front,
    command=lambda home: _run_module(home, "local.front"),
    is_ready=lambda home: _answers(home.ports.front, "/healthz"),
    sources=(_LOCAL / "front",),
)
