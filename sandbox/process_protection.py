"""Keeps the program's secrets from the commands, which run as the same user.

Two layers, because the user id cannot tell them apart: the kernel is told that this process may not be
inspected (`/proc/<pid>/environ`, `/proc/<pid>/mem`, ptrace, core files), and the secrets are wiped from the
environment block that the container was started with.
"""

import contextlib
import ctypes
import logging
import os
import resource
from collections.abc import Iterable

_PR_SET_DUMPABLE = 4
_PR_SET_NO_NEW_PRIVS = 38

logger = logging.getLogger("sandbox.process_protection")


def apply(*, secrets: Iterable[str], max_processes: int | None) -> None:
    """Protect this process and bound its children. Call once, before the first command and thread."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.getenv.restype = ctypes.c_void_p
    libc.getenv.argtypes = [ctypes.c_char_p]
    for name in secrets:
        _wipe(libc, name)
    for option, value in ((_PR_SET_DUMPABLE, 0), (_PR_SET_NO_NEW_PRIVS, 1)):
        if libc.prctl(option, value, 0, 0, 0) != 0:
            logger.warning("prctl(%d) failed: %s", option, os.strerror(ctypes.get_errno()))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if max_processes is not None:
        resource.setrlimit(resource.RLIMIT_NPROC, (max_processes, max_processes))


def _wipe(libc: ctypes.CDLL, name: str) -> None:
    """Overwrite the value in place, then forget it: unsetting alone leaves the text in /proc/self/environ."""
    address = libc.getenv(name.encode())
    if address:
        ctypes.memset(address, ord("x"), len(ctypes.string_at(address)))
    os.environ.pop(name, None)


def prefer_as_memory_victim(pid: int) -> None:
    """Have the kernel kill this command, not the program, when the sandbox runs out of memory."""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/oom_score_adj", "w") as file:  # noqa: PTH123
        file.write("900")
