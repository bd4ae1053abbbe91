"""Builds the sandboxes' own virtual environment, so that a sandbox sees what its image would contain and no more."""

import compileall
import hashlib
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from local.errors import HomeError
from local.settings import REPOSITORY, Home

JAIL_INIT = Path(__file__).parent / "jail_init"
REQUIREMENTS = REPOSITORY / "sandbox" / "requirements.txt"


@dataclass(frozen=True, slots=True)
class SandboxEnvironment:
    """What a jail mounts: the environment, the interpreter it stands on, and the program."""

    venv: Path
    interpreters: tuple[Path, ...]
    program: Path


def ensure_sandbox_environment(home: Home) -> SandboxEnvironment:
    """Return the environment, built first where it is missing or out of date. Raises `HomeError`."""
    venv, program = home.folder / "sandbox-venv", REPOSITORY / "sandbox"
    marker = venv / ".requirements.sha256"
    wanted = hashlib.sha256(REQUIREMENTS.read_bytes() + sys.version.encode()).hexdigest()
    if not (marker.exists() and marker.read_text() == wanted):
        shutil.rmtree(venv, ignore_errors=True)
        _build(venv)
        marker.write_text(wanted)
    for folder in (program, JAIL_INIT):
        # A jail cannot write compiled modules, and would compile them at every start.
        compileall.compile_dir(folder, quiet=2, maxlevels=2)
    # Both as the environment names it and where it is: installers put links to links.
    named = (venv / "bin" / "python").readlink().parent.parent
    interpreters = tuple(dict.fromkeys((named, (venv / "bin" / "python").resolve().parent.parent)))
    return SandboxEnvironment(venv=venv, interpreters=interpreters, program=program)


def _build(venv: Path) -> None:
    interpreter = str(Path(sys.base_prefix) / "bin" / f"python3.{sys.version_info.minor}")
    uv = os.environ.get("UV") or shutil.which("uv")
    if uv is None:
        raise HomeError("uv was not found.", hint="Install it: https://docs.astral.sh/uv/getting-started/installation/")
    install = [
        uv,
        "pip",
        "install",
        "--quiet",
        "--require-hashes",
        "--compile-bytecode",
        "--requirement",
        str(REQUIREMENTS),
    ]
    for command in (
        [uv, "venv", "--quiet", "--no-project", "--python", interpreter, str(venv)],
        [*install, "--python", str(venv / "bin" / "python")],
    ):
        # An active environment of the caller's must not attract the packages.
        environment = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        if done.returncode != 0:
            message = f"The sandboxes' environment could not be built: {done.stderr.strip()}"
            raise HomeError(message, hint="Check the network connection, then start again.")
