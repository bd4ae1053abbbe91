"""Detached processes with a pid file each: started, recognised after pid reuse, stopped with grace."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

# Inherited by everything a part starts, so that what it leaves behind when it is killed can be told from strangers.
MARKER: Final = "RUNYARD_PART"
_LARGEST_LOG_BYTES: Final = 20 * 1024 * 1024
# A pid and the second it was started in name a process for good; clocks of the kernel tick 100 times a second.
_SAME_START_S: Final = 0.5

# Kept so that children which die while this program runs are reaped instead of lingering as zombies. Parts are started
# and looked at by several threads at once: a child is added or taken out, and the set never replaced by another.
_children: set[subprocess.Popen[bytes]] = set()


@dataclass(frozen=True, slots=True)
class Command:
    """What to execute, in which folder and with exactly which environment."""

    argv: tuple[str, ...]
    environment: Mapping[str, str]
    folder: Path


@dataclass(frozen=True, slots=True)
class Record:
    """A pid file's content. `fingerprint` changes with anything that asks for a restart of the part."""

    pid: int
    started_after_boot_s: float
    fingerprint: str

    def process(self) -> psutil.Process | None:
        """Return the recorded process if it lives; None when it is gone or its pid belongs to another one by now."""
        _reap()
        try:
            process = psutil.Process(self.pid)
            same = abs(_after_boot_s(process) - self.started_after_boot_s) < _SAME_START_S
            return process if same and process.status() != psutil.STATUS_ZOMBIE else None
        except psutil.NoSuchProcess:
            return None


def read_record(file: Path) -> Record | None:
    """Return what the pid file says, or None without one. A file cut short by a crash counts as none."""
    try:
        pid, started, fingerprint = file.read_text().split()
        return Record(int(pid), float(started), fingerprint)
    except (FileNotFoundError, ValueError):
        return None


def start(command: Command, *, record_file: Path, log_file: Path, fingerprint: str, marker: str) -> Record:
    """Start the command in a session of its own, its output appended to the log, and write its pid file."""
    _rotate(log_file)
    with log_file.open("ab") as log:
        child = subprocess.Popen(
            command.argv,
            cwd=command.folder,
            env={**command.environment, MARKER: marker},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    _children.add(child)
    try:
        started = _after_boot_s(psutil.Process(child.pid))
    except psutil.NoSuchProcess:  # it failed at once: the caller finds it dead and shows its log
        started = 0.0
    record = Record(child.pid, started, fingerprint)
    write_atomically(record_file, f"{record.pid}\n{record.started_after_boot_s}\n{record.fingerprint}\n")
    return record


def stop(process: psutil.Process, *, with_signal: signal.Signals, grace_s: float) -> bool:
    """Ask the process to end and return True if it did within its grace; otherwise kill it and return False."""
    with contextlib.suppress(psutil.NoSuchProcess):
        process.send_signal(with_signal)
        if not _has_ended(process, within_s=grace_s):
            process.kill()
            _has_ended(process, within_s=10)
            return False
    return True


def kill_leftovers(marker: str) -> int:
    """Kill what a dead part left running, e.g. the emulator's workers, and return how many there were."""
    found = 0
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.pid != os.getpid() and process.environ().get(MARKER) == marker:
                process.kill()
                found += 1
    return found


def write_atomically(file: Path, text: str, *, mode: int = 0o600) -> None:
    """Replace the file's content in one step, readable by its owner only."""
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w") as stream:
        stream.write(text)
    temporary.replace(file)


def last_lines(log_file: Path, count: int, *, after_byte: int = 0) -> list[str]:
    """Return the log's last lines, without reading more than its last 64 KB, or what lies before `after_byte`."""
    if not log_file.exists():
        return []
    with log_file.open("rb") as log:
        log.seek(max(after_byte, log_file.stat().st_size - 65536))
        return log.read().decode(errors="replace").splitlines()[-count:]


def _after_boot_s(process: psutil.Process) -> float:
    """Return when the process was started, counted from the boot: unlike a date it survives a clock being set."""
    return process.create_time() - psutil.boot_time()


def _has_ended(process: psutil.Process, *, within_s: float) -> bool:
    """Wait for the process to end. One that only its parent hasn't buried yet (a zombie) has ended."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        _reap()
        try:
            if not process.is_running() or process.status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.01)
    return False


def _reap() -> None:
    for child in tuple(_children):
        if child.poll() is not None:
            _children.discard(child)


def _rotate(log_file: Path) -> None:
    if log_file.exists() and log_file.stat().st_size > _LARGEST_LOG_BYTES:
        log_file.replace(log_file.with_name(f"{log_file.name}.1"))
