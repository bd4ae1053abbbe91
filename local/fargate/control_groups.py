"""Limits a jail by a control group (version 2) where this process may make one."""

import contextlib
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

_ROOT = Path("/sys/fs/cgroup")
_NEEDED = ("memory", "pids")


@dataclass(frozen=True, slots=True)
class ControlGroup:
    """One jail's group. Whoever writes to `members` joins it."""

    folder: Path

    @property
    def members(self) -> Path:
        return self.folder / "cgroup.procs"

    def remove(self) -> None:
        """Remove the group; it must be empty."""
        with contextlib.suppress(OSError):
            self.folder.rmdir()


def make_control_group(parent: Path | None, *, memory_bytes: int, processes: int) -> ControlGroup | None:
    """Make a group with these limits, or return None where there is no parent for it."""
    if parent is None:
        return None
    folder = parent / f"runyard-{secrets.token_hex(6)}"
    try:
        folder.mkdir()
        (folder / "pids.max").write_text(str(processes))
        (folder / "memory.max").write_text(str(memory_bytes))
    except OSError:
        with contextlib.suppress(OSError):
            folder.rmdir()
        return None
    with contextlib.suppress(OSError):  # absent without swap
        (folder / "memory.swap.max").write_text("0")
    return ControlGroup(folder)


def find_parent(root: Path = _ROOT, membership: Path = Path("/proc/self/cgroup")) -> Path | None:
    """Return the nearest group above our own in which limited groups can be made and entered, or None.

    Our own will not do: a group that has members cannot give limits to groups inside it.
    """
    own = next((line[3:] for line in _lines(membership) if line.startswith("0::")), None)
    if own is None:
        return None
    for folder in Path(f"{root}{own}").parents:
        if folder.is_relative_to(root) and _is_usable(folder):
            return folder
    return None


def _is_usable(folder: Path) -> bool:
    offered = " ".join(_lines(folder / "cgroup.subtree_control")).split()
    if not set(_NEEDED) <= set(offered) or not os.access(folder / "cgroup.procs", os.W_OK):
        return False
    group = make_control_group(folder, memory_bytes=2**30, processes=64)
    if group is None:
        return False
    group.remove()
    return True


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text().splitlines()
    except OSError:
        return []
