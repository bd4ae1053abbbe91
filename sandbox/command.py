"""One command: a process group with its pipes, its time limit and its result."""

import asyncio
import contextlib
import os
import resource
import signal
import subprocess
import time
from typing import IO, cast

from sandbox.command_messages import CommandRequest, CommandResult, CommandStatus
from sandbox.output import OutputBudget, OutputStream

# How long a finished command's pipes may stay silent before they are closed: a background process holds them.
_SILENCE_S = 0.2
_LONGEST_DRAIN_S = 5.0


class Command:
    """Runs at most once. `finished` is set when the result is final."""

    def __init__(self, request: CommandRequest, budget: OutputBudget, kill_grace_s: float) -> None:
        self.id = request.id
        self.fingerprint = request.fingerprint()
        self.finished = asyncio.Event()
        self.stdout = OutputStream(request.max_output_bytes, budget)
        self.stderr = OutputStream(request.max_output_bytes, budget)
        self._kill_grace_s = kill_grace_s
        self._started = time.monotonic()
        self._duration_s: float | None = None
        self._status: CommandStatus = "running"
        self._exit_code: int | None = None
        self._max_rss_bytes: int | None = None
        self._timed_out = False
        self._process: subprocess.Popen[bytes] | None = None
        self._process_gone = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def result(self) -> CommandResult:
        """Return the command as it is now, with what it has printed so far."""
        duration_s = time.monotonic() - self._started if self._duration_s is None else self._duration_s
        return CommandResult(
            id=self.id,
            status=self._status,
            exit_code=None if self._status == "running" else self._exit_code,
            stdout=self.stdout.text(),
            stderr=self.stderr.text(),
            stdout_truncated=self.stdout.truncated,
            stderr_truncated=self.stderr.truncated,
            duration_ms=round(duration_s * 1000),
            max_rss_bytes=self._max_rss_bytes,
        )

    async def wait(self, wait_s: float) -> None:
        """Return when the command has finished, or after `wait_s`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await self.finished.wait()

    def start(self, argv: list[str], *, cwd: str, env: dict[str, str], stdin: bytes, timeout_s: float) -> int:
        """Start the process in a session of its own and return its id. Raises `OSError`."""
        self._process = subprocess.Popen(
            argv,
            cwd=cwd,
            env=env,
            stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            bufsize=0,
        )
        self._task = asyncio.create_task(self._supervise(self._process, stdin, timeout_s))
        return self._process.pid

    def fail(self, exit_code: int, message: str) -> None:
        """Finish a command whose program could not be started, as a shell would."""
        self.stderr.data_received(message.encode(errors="replace"))
        self._exit_code = exit_code
        self._finish("exited")

    def reaped(self, wait_status: int, usage: resource.struct_rusage) -> None:
        """Take note of the process's end, which the registry has collected."""
        code = os.waitstatus_to_exitcode(wait_status)
        self._exit_code = code if code >= 0 else 128 - code
        # Linux counts in KiB. Never below this program's own size: a fork has it until it calls exec.
        self._max_rss_bytes = usage.ru_maxrss * 1024
        if self._process is not None:
            self._process.returncode = code
        self._duration_s = time.monotonic() - self._started
        self._process_gone.set()

    def signal_group(self, number: signal.Signals) -> None:
        """Signal the process and every descendant that has stayed in its group."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, number)

    async def _supervise(self, process: subprocess.Popen[bytes], stdin: bytes, timeout_s: float) -> None:
        loop = asyncio.get_running_loop()
        assert process.stdout is not None  # noqa: S101 - for the type checker: they were asked for
        assert process.stderr is not None  # noqa: S101
        await loop.connect_read_pipe(lambda: self.stdout, process.stdout)
        await loop.connect_read_pipe(lambda: self.stderr, process.stderr)
        stdin_writer = await _start_writing(process.stdin, stdin) if process.stdin is not None else None
        try:
            async with asyncio.timeout(timeout_s):
                await self._process_gone.wait()
        except TimeoutError:
            self._timed_out = True
            await self._kill_group()
        if stdin_writer is not None:
            stdin_writer.stop()
        await self._drain()
        killed = self._process is not None and (self._process.returncode or 0) < 0
        self._finish("timed_out" if self._timed_out else "killed" if killed else "exited")

    async def _kill_group(self) -> None:
        self.signal_group(signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._kill_grace_s):
                await self._process_gone.wait()
        # Also after a polite end: its children may have ignored the request.
        self.signal_group(signal.SIGKILL)
        await self._process_gone.wait()

    async def _drain(self) -> None:
        """Read what is left in the pipes; a background process that keeps them open is not waited for."""
        deadline = time.monotonic() + _LONGEST_DRAIN_S
        for stream in (self.stdout, self.stderr):
            while not stream.closed.is_set() and time.monotonic() < deadline:
                before = stream.received_bytes
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_SILENCE_S):
                        await stream.closed.wait()
                if stream.received_bytes == before:
                    break
            stream.close()

    def _finish(self, status: CommandStatus) -> None:
        self._status = status
        self._duration_s = self._duration_s or time.monotonic() - self._started
        self.finished.set()


class _StdinWriter(asyncio.BaseProtocol):
    """The writing end of a command's stdin, closed once everything is written. A command need not read it."""

    def __init__(self) -> None:
        self._transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.WriteTransport", transport)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self._transport = None

    def stop(self) -> None:
        """Give up what has not been read."""
        if self._transport is not None:
            self._transport.abort()


async def _start_writing(pipe: IO[bytes], data: bytes) -> _StdinWriter:
    transport, writer = await asyncio.get_running_loop().connect_write_pipe(_StdinWriter, pipe)
    transport.write(data)
    transport.write_eof()
    return writer
