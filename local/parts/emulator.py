"""MiniStack: the AWS services that the stacks are deployed to, in a Python environment of its own.

That way a function sees its layers and nothing else, and a package missing from a layer fails here as it would in AWS.
For the same reason the emulator is given few variables: every function inherits them.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import httpx

from local.errors import HomeError
from local.parts.part import Part
from local.processes import Command
from local.settings import ACCOUNT, LOOPBACK, REGION, Home

_EMULATOR: Final = Path(__file__).resolve().parent.parent / "emulator"
_REQUIREMENTS: Final = _EMULATOR / "requirements.txt"
_LAUNCH: Final = _EMULATOR / "launch.py"


def _prepare(home: Home) -> None:
    """Make the environment on first use and whenever the pinned requirements change; clear what a crash left."""
    shutil.rmtree(home.temporary, ignore_errors=True)
    home.temporary.mkdir(mode=0o700)
    wanted = hashlib.sha256(_REQUIREMENTS.read_bytes() + sys.version.encode()).hexdigest()
    stamp = home.emulator_venv / "made-from"
    if stamp.exists() and stamp.read_text() == wanted:
        return
    _uv("venv", "--quiet", "--clear", "--python", sys.executable, str(home.emulator_venv))
    python = str(home.emulator_venv / "bin" / "python")
    _uv("pip", "install", "--quiet", "--python", python, "--require-hashes", "--requirement", str(_REQUIREMENTS))
    stamp.write_text(wanted)


def _uv(*arguments: str) -> None:
    uv = os.environ.get("UV") or shutil.which("uv")
    if uv is None:
        raise HomeError(
            "uv is not on the PATH.", hint="Run `make up`, which brings its own, or see https://docs.astral.sh/uv."
        )
    done = subprocess.run([uv, *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise HomeError(f"The emulator's environment could not be made: {done.stderr.strip()}")


def _command(home: Home) -> Command:
    state = home.state / "emulator"
    environment = {
        "PATH": f"{home.emulator_venv / 'bin'}:{os.defpath}",
        "HOME": str(home.temporary),
        "TMPDIR": str(home.temporary),
        "LANG": "C.UTF-8",
        "BIND_HOST": LOOPBACK,
        "GATEWAY_PORT": str(home.ports.emulator),
        "MINISTACK_ACCOUNT_ID": ACCOUNT,
        "MINISTACK_REGION": REGION,
        "LAMBDA_EXECUTOR": "local",
        "PERSIST_STATE": "1",
        "STATE_DIR": str(state / "services"),
        "S3_PERSIST": "1",
        "S3_DATA_DIR": str(state / "s3"),
        # Both would listen beyond loopback, and nothing here uses them.
        "IOT_MTLS_ENABLED": "0",
        "SFTP_ENABLED": "0",
        # No Docker, even where there is one: the home must be the same on every machine.
        "DOCKER_HOST": f"unix://{home.temporary / 'no-docker.sock'}",
    }
    return Command((str(home.emulator_venv / "bin" / "python"), str(_LAUNCH)), environment, home.folder)


def _is_ready(home: Home) -> bool:
    try:
        return httpx.get(f"{home.emulator_url}/_ministack/ready", timeout=5, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


EMULATOR = Part(
    name="emulator",
    port=lambda home: home.ports.emulator,
    prepare=_prepare,
    command=_command,
    is_ready=_is_ready,
    sources=(_REQUIREMENTS, _LAUNCH),
    grace_s=30,  # it writes its state down when it is asked to end
    ready_within_s=60,
)
