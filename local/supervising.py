"""Starting, stopping and looking at the parts of a home, always under its lock."""

import contextlib
import fcntl
import os
import shutil
import socket
import time
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum

import psutil

from local import processes
from local.errors import HomeError
from local.parts import FARGATE, FRONT, GATEWAY, PARTS
from local.parts.part import Part
from local.passwords import read_passwords
from local.settings import LOOPBACK, Home, port_variable
from local.terminal import Terminal

# These look for others as soon as they run; the others need nobody.
_LAST_WAVE = (FARGATE, FRONT, GATEWAY)


class Condition(StrEnum):
    """How a part is."""

    RUNNING = "running"
    UNRESPONSIVE = "not answering"
    CRASHED = "crashed"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class PartStatus:
    """A part as found just now; `process` is set while it lives, whether it answers or not."""

    part: Part
    condition: Condition
    process: psutil.Process | None = None
    is_outdated: bool = False
    complaint: str = ""


@contextlib.contextmanager
def locked(home: Home) -> Iterator[None]:
    """Hold the home's lock: one `up`, `down`, `deploy` or `reset` at a time. Raises `HomeError` when it is held."""
    for folder in (home.folder, home.state, home.logs, home.run):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (home.run / "lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise HomeError(
                f"Another command is at work on this home: {lock.read().strip() or 'unknown'}.",
                hint="Wait until it has finished, or choose another home with RUNYARD_HOME and RUNYARD_PORT_BASE.",
            ) from None
        lock.truncate(0)
        lock.write(f"process {os.getpid()}")
        lock.flush()
        yield
        lock.truncate(0)


def look(home: Home, part: Part) -> PartStatus:
    """Return how the part is, asking it whether it answers."""
    record = processes.read_record(part.record_file(home))
    if record is None:
        return PartStatus(part, Condition.STOPPED)
    process = record.process()
    if process is None:
        return PartStatus(part, Condition.CRASHED)
    condition = Condition.RUNNING if part.is_ready(home) else Condition.UNRESPONSIVE
    return PartStatus(
        part,
        condition,
        process,
        is_outdated=record.fingerprint != part.fingerprint(home),
        complaint=part.complaint(home),
    )


def look_at_all(home: Home) -> list[PartStatus]:
    """Return how every part is that the home has a use for by now, in their order."""
    with ThreadPoolExecutor(len(PARTS)) as pool:
        return list(pool.map(lambda part: look(home, part), [part for part in PARTS if part.is_due(home)]))


def start_missing(home: Home, terminal: Terminal, *, leaving: Collection[Part] = ()) -> list[Part]:
    """Bring every part up but those to be left as they are; return those that had to be started.

    The caller holds the lock. Nothing is started unless every port is free, and when a part fails, those started with
    it are stopped again.
    """
    missing: list[Part] = []
    for status in look_at_all(home):
        if status.part in leaving or (status.condition is Condition.RUNNING and not status.is_outdated):
            continue
        _clear(home, status, terminal)
        missing.append(status.part)
    for part in missing:
        _require_free_port(home, part)
    read_passwords(home)  # made here, before several parts ask for them at once
    started: list[Part] = []
    try:
        for wave in ([part for part in missing if part not in _LAST_WAVE], [p for p in missing if p in _LAST_WAVE]):
            _start_together(home, wave, started, terminal)
    except BaseException:
        for part in reversed(started):
            stop(home, part)
        raise
    return missing


def stop_all(home: Home, terminal: Terminal) -> list[Part]:
    """Stop what runs, last started first, and return what was stopped. The caller holds the lock."""
    stopped = []
    for part in reversed(PARTS):
        if processes.read_record(part.record_file(home)) is None:
            continue
        with terminal.step(f"stopping {part.name}", done=f"{part.name} stopped"):
            if not stop(home, part):
                terminal.warn(f"{part.name} did not end within {part.grace_s:.0f} s and was killed")
        stopped.append(part)
    return stopped


def stop(home: Home, part: Part) -> bool:
    """Stop the part and all it started; return False if it had to be killed."""
    record = processes.read_record(part.record_file(home))
    process = record.process() if record else None
    graceful = process is None or processes.stop(process, with_signal=part.stop_signal, grace_s=part.grace_s)
    processes.kill_leftovers(part.marker(home))
    part.record_file(home).unlink(missing_ok=True)
    return graceful


def restart(home: Home, part: Part) -> None:
    """Stop the part with grace and start it again. The caller holds the lock."""
    stop(home, part)
    _launch(home, part)


def _clear(home: Home, status: PartStatus, terminal: Terminal) -> None:
    """Make way for a new start of a part that crashed, hangs or runs an older program."""
    match status.condition:
        case Condition.CRASHED:
            terminal.warn(
                f"{status.part.name} had crashed; starting it again (see `make logs part={status.part.name}`)"
            )
        case Condition.UNRESPONSIVE:
            terminal.warn(f"{status.part.name} does not answer; restarting it")
        case Condition.RUNNING:
            terminal.say(f"{status.part.name} has changed; restarting it")
        case Condition.STOPPED:
            return
    stop(home, status.part)


def _start_together(home: Home, wave: list[Part], started: list[Part], terminal: Terminal) -> None:
    if not wave:
        return
    with terminal.step(f"starting {', '.join(part.name for part in wave)}"), ThreadPoolExecutor(len(wave)) as pool:
        futures = [pool.submit(_start, home, part, started, terminal) for part in wave]
    # All have ended by now, so that a failure never leaves a start under way.
    for future in futures:
        future.result()


def _start(home: Home, part: Part, started: list[Part], terminal: Terminal) -> None:
    began = time.monotonic()
    _launch(home, part, started)
    port = part.port(home)
    place = f" on {LOOPBACK}:{port}" if port else ""
    terminal.say(f"{part.name} started{place} in {time.monotonic() - began:.1f} s")
    if complaint := part.complaint(home):
        terminal.warn(f"{part.name}: {complaint}")


def _launch(home: Home, part: Part, started: list[Part] | None = None) -> None:
    """Start the part and wait until it answers; note it in `started` as soon as there is something to stop."""
    began = time.monotonic()
    part.prepare(home)
    if started is not None:
        started.append(part)
    record = processes.start(
        part.command(home),
        record_file=part.record_file(home),
        log_file=part.log_file(home),
        fingerprint=part.fingerprint(home),
        marker=part.marker(home),
    )
    while not part.is_ready(home):
        if record.process() is None:
            raise _failure(home, part, "ended while it was starting")
        if time.monotonic() - began > part.ready_within_s:
            raise _failure(home, part, f"did not answer within {part.ready_within_s:.0f} s")
        time.sleep(0.02)
    if record.process() is None:  # what answers is somebody else who took the port meanwhile
        raise _failure(home, part, "ended while it was starting")
    part.settle(home)


def _failure(home: Home, part: Part, what: str) -> HomeError:
    lines = processes.last_lines(part.log_file(home), 12)
    shown = "\n".join(f"    {line}" for line in lines) or "    (it wrote nothing)"
    return HomeError(f"{part.name} {what}. The last lines of {part.log_file(home)}:\n{shown}")


def _require_free_port(home: Home, part: Part) -> None:
    port = part.port(home)
    if port is None:
        return
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            variable = port_variable(part.name)
            raise HomeError(
                f"Port {port}, which {part.name} needs, is taken by {_owner_of(port)}. Nothing was started.",
                hint=f"Stop that program, or give {part.name} another port with {variable}=<port> "
                "(RUNYARD_PORT_BASE=<port> moves all of them).",
            ) from None


def _owner_of(port: int) -> str:
    with contextlib.suppress(psutil.Error):
        for connection in psutil.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr[1:] == (port,) and connection.pid:
                return f"process {connection.pid} ({psutil.Process(connection.pid).name()})"
    return "another program"


def delete_state(home: Home) -> None:
    """Delete what the home remembers, and keep what only costs time to make again. The caller holds the lock."""
    for folder in (home.state, home.logs, home.temporary, home.folder / "cdk.out"):
        shutil.rmtree(folder, ignore_errors=True)
    for file in (home.secrets_file, home.endpoints_file, home.outputs_file, home.gateway_file):
        file.unlink(missing_ok=True)
