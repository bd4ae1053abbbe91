"""Commands in this process: the bounds that a whole sandbox takes long to reach."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from sandbox.command_messages import CommandRequest
from sandbox.commands import CommandRegistry
from sandbox.config import Limits
from sandbox.errors import SandboxError


def _with_registry(folder: Path, limits: Limits, test: Callable[[CommandRegistry], Awaitable[None]]) -> None:
    async def run() -> None:
        commands = CommandRegistry(limits, workspace=folder)
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGCHLD, commands.reap)
        try:
            await test(commands)
        finally:
            await commands.shut_down(within_s=2)
            loop.remove_signal_handler(signal.SIGCHLD)

    asyncio.run(run())


def test_only_so_many_commands_run_at_once(tmp_path: Path) -> None:
    async def check(commands: CommandRegistry) -> None:
        first = commands.run(CommandRequest(id="1", argv=["sleep", "60"]))
        with pytest.raises(SandboxError, match="Wait for one to end") as caught:
            commands.run(CommandRequest(id="2", argv=["true"]))
        assert caught.value.code == "too_many_running_commands"
        first.signal_group(signal.SIGKILL)
        await first.wait(10)
        second = commands.run(CommandRequest(id="2", argv=["true"]))
        await second.wait(10)
        assert second.result().exit_code == 0

    _with_registry(tmp_path, Limits(running_commands=1), check)


def test_only_so_many_commands_are_remembered(tmp_path: Path) -> None:
    async def check(commands: CommandRegistry) -> None:
        await commands.run(CommandRequest(id="1", argv=["true"])).wait(10)
        with pytest.raises(SandboxError) as caught:
            commands.run(CommandRequest(id="2", argv=["true"]))
        assert caught.value.code == "too_many_commands"
        assert commands.get("1").result().exit_code == 0

    _with_registry(tmp_path, Limits(known_commands=1), check)


def test_an_old_output_gives_way_and_its_command_never_runs_again(tmp_path: Path) -> None:
    async def check(commands: CommandRegistry) -> None:
        request = CommandRequest(id="old", shell="echo x >> runs; printf 0123456789")
        await commands.run(request).wait(10)
        await asyncio.sleep(0)
        newer = commands.run(CommandRequest(id="new", shell="printf abcdefgh"))
        await newer.wait(10)
        assert newer.result().stdout == "abcdefgh"
        old = commands.run(request).result()
        assert (old.stdout, old.stdout_truncated, old.exit_code) == ("", True, 0)
        assert (tmp_path / "runs").read_text() == "x\n"

    _with_registry(tmp_path, Limits(retained_output_bytes=12), check)


def test_a_stopping_sandbox_ends_what_runs_and_takes_nothing_new(tmp_path: Path) -> None:
    async def check(commands: CommandRegistry) -> None:
        running = commands.run(CommandRequest(id="1", shell="trap '' TERM; echo up; while true; do sleep 0.05; done"))
        while not running.result().stdout:  # noqa: ASYNC110 - output has no event
            await asyncio.sleep(0.01)
        await commands.shut_down(within_s=0.2)
        assert running.result().status == "killed"
        with pytest.raises(SandboxError) as caught:
            commands.run(CommandRequest(id="2", argv=["true"]))
        assert caught.value.code == "sandbox_stopping"

    _with_registry(tmp_path, Limits(), check)


def test_a_program_without_permission_is_told_as_a_shell_would(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("no program")

    async def check(commands: CommandRegistry) -> None:
        result = commands.run(CommandRequest(id="1", argv=["./data"])).result()
        assert (result.status, result.exit_code, result.stderr) == ("exited", 126, "./data: Permission denied\n")

    _with_registry(tmp_path, Limits(), check)


def test_other_children_of_this_process_are_left_alone(tmp_path: Path) -> None:
    async def check(commands: CommandRegistry) -> None:
        stranger = await asyncio.to_thread(os.posix_spawnp, "true", ["true"], os.environ)
        await commands.run(CommandRequest(id="1", argv=["true"])).wait(10)
        ended, _ = await asyncio.to_thread(os.waitpid, stranger, 0)
        assert ended == stranger

    _with_registry(tmp_path, Limits(), check)
