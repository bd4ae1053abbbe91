"""Hostile commands against the program: what they may not find, reach or break."""

import pytest

from tests.integration.sandbox.machine import MIB, Machine, RunningSandbox


def test_commands_start_with_an_environment_of_their_own(sandbox: RunningSandbox) -> None:
    names = {line.partition("=")[0] for line in sandbox.shell("env").splitlines()}
    assert names <= {"PATH", "HOME", "LANG", "USER", "SHELL", "PWD", "SHLVL", "_"}


def test_no_token_can_be_read_from_any_process(sandbox: RunningSandbox) -> None:
    found = sandbox.shell("cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' '\\n'")
    assert "python" in found
    assert "registration-secret" not in found
    assert _access_token(sandbox) not in found


@pytest.mark.parametrize("file", ["environ", "mem", "maps", "fd/0", "task/2/environ"])
@pytest.mark.parametrize("process", ["1", "2"])
def test_the_programs_processes_cannot_be_inspected(sandbox: RunningSandbox, process: str, file: str) -> None:
    read = f"open('/proc/{process}/{file}', 'rb').read(1)"
    result = sandbox.run(id=f"inspect-{process}-{file.replace('/', '-')}", argv=["python", "-c", read])
    assert "PermissionError" in result["stderr"] or "FileNotFoundError" in result["stderr"]


def test_the_programs_memory_cannot_be_traced(sandbox: RunningSandbox) -> None:
    attach = (
        "import ctypes, os; c = ctypes.CDLL(None, use_errno=True); print(c.ptrace(16, 2, 0, 0), ctypes.get_errno())"
    )
    assert sandbox.shell(f"python -c '{attach}'") == "-1 1\n"


def test_the_registration_token_works_once(sandbox: RunningSandbox) -> None:
    """A command that somehow learned it could not pose as the sandbox."""
    again = {
        "sandbox_id": sandbox.task.sandbox_id,
        "registration_token": sandbox.task.environment["SANDBOX_REGISTRATION_TOKEN"],
        "address": "http://127.0.0.1:9",
        "access_token": "mine",
    }
    post = f"""
import http.client, json
connection = http.client.HTTPConnection("127.0.0.1", 7101)
connection.request("POST", "/v1/sandboxes/register", {str(again)!r}.replace("'", '"'))
print(connection.getresponse().status)
"""
    assert sandbox.run(id="again", argv=["python", "-c", post])["stdout"] == "401\n"


def test_a_command_cannot_kill_process_one_or_signal_anything_outside(own_sandbox: RunningSandbox) -> None:
    own_sandbox.shell("kill -9 1; true")
    assert own_sandbox.shell("echo alive") == "alive\n"


def test_a_memory_hog_is_killed_and_the_sandbox_lives_on(own_sandbox: RunningSandbox) -> None:
    hog = "x = []\nwhile True: x.append(bytearray(10 << 20))"
    result = own_sandbox.run(id="hog", argv=["python", "-c", hog], timeout_s=20)
    assert result["exit_code"] != 0
    assert result["max_rss_bytes"] < 800 * MIB
    assert own_sandbox.shell("echo alive") == "alive\n"


def test_hogs_that_are_small_each_are_killed_for_their_sum(own_sandbox: RunningSandbox) -> None:
    hog = "import os, time\nfor _ in range(3): os.fork()\nx = bytearray(150 << 20)\ntime.sleep(30)"
    result = own_sandbox.run(id="hogs", argv=["python", "-c", hog], timeout_s=20)
    assert (result["status"], result["exit_code"]) == ("killed", 137)
    assert own_sandbox.shell("echo alive") == "alive\n"


@pytest.mark.parametrize("bomb", ["while True: os.fork()", "while True: os.fork() or os.setsid()"])
def test_a_fork_bomb_is_contained_and_the_sandbox_lives_on(own_sandbox: RunningSandbox, bomb: str) -> None:
    result = own_sandbox.run(id="bomb", argv=["python", "-c", f"import os\n{bomb}"], timeout_s=10, wait_s=25)
    assert result["status"] != "running"
    assert own_sandbox.shell("echo alive") == "alive\n"


def test_a_full_tmp_is_the_sandboxs_own_problem(own_sandbox: RunningSandbox) -> None:
    result = own_sandbox.run(id="fill", shell="head -c 2G /dev/zero > /tmp/fill", timeout_s=20)
    assert "No space left on device" in result["stderr"]
    assert own_sandbox.shell("echo alive") == "alive\n"


def test_a_command_that_kills_the_program_ends_the_sandbox_only(machine: Machine, own_sandbox: RunningSandbox) -> None:
    own_sandbox.client.post("/commands", json={"id": "end", "shell": "sleep 0.2; kill -9 2", "wait_s": 0})
    assert machine.wait(own_sandbox.container.wait()).exit_code == 137


def _access_token(sandbox: RunningSandbox) -> str:
    return sandbox.client.headers["Authorization"].removeprefix("Bearer ")
