"""Holds a jail to its memory and number of processes where no control group can: counts, and kills the largest."""

import contextlib
import os
import signal
from collections import Counter

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
# Fields of /proc/<pid>/stat after the command's name, which may itself contain spaces and brackets.
_GROUP, _THREADS = 2, 17
# For programs that start processes as fast as their groups are killed, each in a session of its own: at first only
# as much is killed as is too much, then everything but the program, and in the end the jail.
_SPARING_ROUNDS, _MOST_ROUNDS = 3, 20

_HOPELESS = {
    "memory": "OutOfMemoryError: the task exceeded its memory",
    "processes": "ResourceLimitError: the task exceeded its number of processes",
}


class ResourceWatch:
    """Kills whole process groups, largest first, as the kernel's out-of-memory killer would; the program goes last.

    Memory is what processes hold for themselves: pages shared with a file or with others are left out.
    """

    def __init__(self, program: int, *, memory_bytes: int, processes: int) -> None:
        self._program = program
        self._limits = {"memory": memory_bytes, "processes": processes}
        self.hopeless: str | None = None
        """Why the whole jail must end, once killing groups does not help."""

    def enforce(self) -> list[str]:
        """Bring the jail back below its limits. Returns a sentence for each limit that was exceeded."""
        notes = []
        for name, limit in self._limits.items():
            killed = self._enforce(name, limit)
            if killed:
                notes.append(f"over its limit of {limit} ({name}): killed {killed} process groups")
        return notes

    def _enforce(self, name: str, limit: int) -> int:
        killed: set[int] = set()
        for attempt in range(_MOST_ROUNDS):
            # What has been killed counts no more, although the kernel needs a moment to take its memory back.
            usage = Counter({group: n for group, n in _usage_by_group()[name].items() if group not in killed})
            excess = sum(usage.values()) - limit
            if excess <= 0:
                return len(killed)
            usage.pop(self._program, None)
            if not usage:
                break
            for group, amount in usage.most_common():
                if excess <= 0 and attempt < _SPARING_ROUNDS:
                    break
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(group, signal.SIGKILL)
                killed.add(group)
                excess -= amount
        self.hopeless = _HOPELESS[name]
        return len(killed)


def _usage_by_group() -> dict[str, Counter[int]]:
    memory: Counter[int] = Counter()
    processes: Counter[int] = Counter()
    for name in os.listdir("/proc"):  # noqa: PTH208 - ten times a second: pathlib takes thrice the time
        if not name.isdigit() or name == "1":
            continue
        try:
            with open(f"/proc/{name}/stat", "rb") as file:  # noqa: PTH123
                fields = file.read().rpartition(b")")[2].split()
            with open(f"/proc/{name}/statm", "rb") as file:  # noqa: PTH123
                _, resident, shared, *_ = file.read().split()
        except (FileNotFoundError, ProcessLookupError):
            continue  # ended since it was listed
        group = int(fields[_GROUP])
        processes[group] += int(fields[_THREADS])
        memory[group] += (int(resident) - int(shared)) * _PAGE_BYTES
    return {"memory": memory, "processes": processes}
