"""Processes that left their command's session, told by /proc. They may live on, until they leave no room for others."""

import contextlib
import os
import signal
from collections.abc import Collection
from pathlib import Path


def end_strays(sessions: Collection[int]) -> int:
    """Kill every process but this program's and those of these sessions; return how many are still there.

    All are stopped before the first is killed: else each death would make room for the others to fork. What is still
    there has to be reaped, by this program as process 1 or by its parent; call again until nothing is.
    """
    kept = {*sessions, os.getsid(0), os.getsid(1)}
    stopped: set[int] = set()
    while new := set(_strays(kept)) - stopped:
        for pid in new:
            _signal(pid, signal.SIGSTOP)
        stopped |= new
    for pid in stopped:
        _signal(pid, signal.SIGKILL)
    return len(stopped)


def _strays(kept: Collection[int]) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                if os.getsid(int(entry.name)) not in kept:
                    found.append(int(entry.name))
    return found


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)
