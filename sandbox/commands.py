"""All commands of this sandbox by id: the same id never runs twice, and always gets the first result."""

import asyncio
import errno
import os
import signal
import sys
import time
from pathlib import Path

from sandbox.command import Command
from sandbox.command_messages import CommandRequest
from sandbox.config import Limits
from sandbox.errors import SandboxError
from sandbox.output import OutputBudget
from sandbox.process_protection import prefer_as_memory_victim
from sandbox.strays import end_strays

_NOT_FOUND, _NOT_EXECUTABLE = 127, 126  # as in POSIX shells
# In a sandbox this program is process 1, or 2 beside an init of its own. Elsewhere processes are not its to end.
_LAST_OF_A_SANDBOX = 2
# The event loop stands still meanwhile; nothing else could be started anyway.
_LONGEST_CLEARING_S = 3.0
_OUT_OF_RESOURCES = frozenset({errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE})


class CommandRegistry:
    """Starts, remembers and reaps commands. Belongs to one event loop, which makes each method atomic."""

    def __init__(self, limits: Limits, *, workspace: Path) -> None:
        self._limits = limits
        self._workspace = workspace
        self._budget = OutputBudget(limits.retained_output_bytes)
        self._commands: dict[str, Command] = {}
        self._running: dict[int, Command] = {}
        self._watching: set[asyncio.Task[None]] = set()
        self._shutting_down = False

    def run(self, request: CommandRequest) -> Command:
        """Start the command, or return the one that already has this id.

        Raises `SandboxError` `command_id_reused` when that one was a different request, and others when nothing
        could be started; then the id stays free.
        """
        known = self._commands.get(request.id)
        if known is not None:
            if known.fingerprint != request.fingerprint():
                raise SandboxError(409, "command_id_reused", f"The id {request.id} belongs to a different command.")
            return known
        self._refuse_when_full()
        command = Command(request, self._budget, self._limits.kill_grace_s)
        self._start(command, request)
        self._commands[request.id] = command
        return command

    def get(self, command_id: str) -> Command:
        """Return a command by id. Raises `SandboxError` 404 `command_not_found`."""
        try:
            return self._commands[command_id]
        except KeyError:
            raise SandboxError(404, "command_not_found", "No command has this id in this sandbox.") from None

    def reap(self) -> None:
        """Collect children that have ended. As process 1 also the orphans that the kernel hands to it."""
        for target in [-1] if os.getpid() == 1 else list(self._running):
            while True:
                try:
                    pid, wait_status, usage = os.wait4(target, os.WNOHANG)
                except ChildProcessError:
                    break
                if pid == 0:
                    break
                command = self._running.pop(pid, None)
                if command is not None:
                    command.reaped(wait_status, usage)

    async def shut_down(self, *, within_s: float) -> None:
        """End every command: SIGTERM to its group, and SIGKILL after `within_s`."""
        self._shutting_down = True
        running = list(self._running.values())
        for command in running:
            command.signal_group(signal.SIGTERM)
        if self._watching:
            await asyncio.wait(self._watching, timeout=within_s)
        for command in running:
            command.signal_group(signal.SIGKILL)
        if self._watching:
            await asyncio.wait(self._watching, timeout=1)

    def _refuse_when_full(self) -> None:
        if self._shutting_down:
            raise SandboxError(503, "sandbox_stopping", "The sandbox is stopping and takes no more commands.")
        if len(self._running) >= self._limits.running_commands:
            message = f"{self._limits.running_commands} commands are running. Wait for one to end."
            raise SandboxError(429, "too_many_running_commands", message)
        if len(self._commands) >= self._limits.known_commands:
            message = f"This sandbox has run {self._limits.known_commands} commands. Start a new one."
            raise SandboxError(429, "too_many_commands", message)

    def _start(self, command: Command, request: CommandRequest) -> None:
        cwd = os.path.normpath(self._workspace / request.cwd)
        argv = request.argv or [_shell(), "-c", request.shell or ""]

        def start() -> int:
            return command.start(
                argv,
                cwd=cwd,
                env=self._environment() | request.env,
                stdin=request.stdin.encode(),
                timeout_s=request.timeout_s,
            )

        try:
            try:
                pid = start()
            except OSError as error:
                if error.errno not in _OUT_OF_RESOURCES or not self._make_room():
                    raise
                pid = start()
        except OSError as error:
            self._not_started(command, argv[0], cwd, error)
            return
        prefer_as_memory_victim(pid)
        self._running[pid] = command
        watching = asyncio.create_task(self._retire_when_finished(command))
        self._watching.add(watching)
        watching.add_done_callback(self._watching.discard)

    def _make_room(self) -> bool:
        """End what left its command's session; return whether there was any, and all of it is gone."""
        if os.getpid() > _LAST_OF_A_SANDBOX:
            return False
        deadline = time.monotonic() + _LONGEST_CLEARING_S
        found = False
        while end_strays(self._running):
            found = True
            if time.monotonic() > deadline:
                return False
            self.reap()
            time.sleep(0.01)
        return found

    async def _retire_when_finished(self, command: Command) -> None:
        await command.finished.wait()
        self._budget.retire(command.stdout)
        self._budget.retire(command.stderr)

    def _not_started(self, command: Command, program: str, cwd: str, error: OSError) -> None:
        if error.errno in _OUT_OF_RESOURCES:
            message = "The sandbox has no room for another process. End some, then try again."
            raise SandboxError(503, "out_of_processes", message) from error
        if error.errno == errno.E2BIG:
            message = "The arguments and the environment are too long; pass data through stdin or a file."
            raise SandboxError(400, "arguments_too_long", message) from error
        if error.filename == cwd:
            raise SandboxError(400, "working_directory_unusable", f"{cwd}: {error.strerror}") from error
        missing = isinstance(error, FileNotFoundError)
        command.fail(_NOT_FOUND if missing else _NOT_EXECUTABLE, f"{program}: {error.strerror}\n")

    def _environment(self) -> dict[str, str]:
        """Return what every command starts with: nothing of this program's own environment."""
        return {
            "PATH": f"{sys.base_prefix}/bin:/usr/local/bin:/usr/bin:/bin",
            "HOME": str(self._workspace),
            "LANG": "C.UTF-8",
            "USER": "sandbox",
            "SHELL": _shell(),
        }


def _shell() -> str:
    """Return bash where there is one: people and models write for it."""
    return "/bin/bash" if Path("/bin/bash").exists() else "/bin/sh"
