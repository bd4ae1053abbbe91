"""Makes the clients' environment on first use and whenever its lock changes."""

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parent
_ENVIRONMENT = FOLDER.parents[2] / ".runyard" / "tools" / "contract-clients"
PYTHON = _ENVIRONMENT / "bin" / "python"


def install() -> None:
    """Return once the environment is as the lock says."""
    stamp = _ENVIRONMENT / "made-from"
    wanted = hashlib.sha256((FOLDER / "uv.lock").read_bytes() + sys.version.encode()).hexdigest()
    if stamp.exists() and stamp.read_text() == wanted:
        return
    done = subprocess.run(
        [*_uv(), "sync", "--frozen", "--quiet", "--project", str(FOLDER), "--python", sys.executable],
        env=os.environ | {"UV_PROJECT_ENVIRONMENT": str(_ENVIRONMENT)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        sys.exit(f"The clients of the contract tests could not be installed:\n{done.stderr}")
    stamp.write_text(wanted)


def _uv() -> list[str]:
    found = os.environ.get("UV") or shutil.which("uv")
    if found:
        return [found]
    if importlib.util.find_spec("uv"):
        return [sys.executable, "-m", "uv"]
    sys.exit("uv is not on the PATH: run `make install`, or see https://docs.astral.sh/uv.")


if __name__ == "__main__":
    install()
