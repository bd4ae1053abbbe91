"""What a jail shows of this machine, and what it lets through."""

import os
import socket
import threading
from pathlib import Path

import psutil
import pytest

from local.fargate.host import CannotStartError
from local.fargate.user_namespace import OUTSIDE_USER_ID
from tests.integration.sandbox.machine import Machine, RunningSandbox
from tests.waiting import until


def test_the_jails_user_is_nobody_special(sandbox: RunningSandbox) -> None:
    assert sandbox.shell("id -u; id -g; id -un; hostname") == "1000\n1000\nsandbox\nsandbox\n"
    status = sandbox.shell("grep -E 'Cap(Prm|Eff|Amb)|NoNewPrivs' /proc/self/status").split()
    assert status == ["CapPrm:", "0" * 16, "CapEff:", "0" * 16, "CapAmb:", "0" * 16, "NoNewPrivs:", "1"]


def test_further_user_namespaces_cannot_be_made(sandbox: RunningSandbox) -> None:
    assert sandbox.run(id="unshare", argv=["unshare", "--user", "true"])["exit_code"] != 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can map foreign users")
def test_a_jail_of_roots_is_a_user_that_owns_nothing_outside(sandbox: RunningSandbox) -> None:
    sandbox.shell("touch mine")
    assert (sandbox.workspace / "mine").stat().st_uid == OUTSIDE_USER_ID


def test_only_processes_of_the_jail_are_seen(sandbox: RunningSandbox) -> None:
    processes = sandbox.shell("ps -e -o comm=").split()
    assert len(processes) <= 5


@pytest.mark.parametrize("path", ["/", "/usr", "/etc", "/opt/runyard/venv", "/opt/runyard/program/sandbox", "/dev"])
def test_the_system_is_read_only(sandbox: RunningSandbox, path: str) -> None:
    result = sandbox.run(id=f"write-{path.replace('/', '-')}", shell=f"echo x > {path}/intruder")
    assert "Read-only file system" in result["stderr"]


def test_nothing_of_the_home_is_seen(machine: Machine, sandbox: RunningSandbox) -> None:
    for path in (machine.home.folder, Path.cwd() / "local", Path.home() / ".ssh", Path("/etc/shadow"), Path("/sys")):
        assert sandbox.shell(f"ls {path} 2>&1 || true").endswith("No such file or directory\n"), path


def test_the_workspace_is_the_homes_folder_and_tmp_is_not(machine: Machine, sandbox: RunningSandbox) -> None:
    sandbox.shell("echo kept > /workspace/kept; echo gone > /tmp/gone")
    assert (machine.home.state / "workspaces" / str(sandbox.task.sandbox_id) / "kept").read_text() == "kept\n"
    assert not Path("/tmp/gone").exists()


def test_nothing_on_the_machine_can_be_reached(sandbox: RunningSandbox) -> None:
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        port = stranger.getsockname()[1]
        connect = f"import socket; socket.create_connection(('127.0.0.1', {port}), 2)"
        assert "ConnectionRefusedError" in sandbox.run(id="loopback", argv=["python", "-c", connect])["stderr"]
    connect = "import socket; socket.create_connection(('1.1.1.1', 443), 2)"
    assert "Network is unreachable" in sandbox.run(id="internet", argv=["python", "-c", connect])["stderr"]
    assert sandbox.shell("cut -d: -f1 /proc/net/dev | tail -n +3 | tr -d ' '") == "lo\n"


def test_nothing_but_registration_and_metadata_gets_out(machine: Machine, sandbox: RunningSandbox) -> None:
    before = list(machine.front.requests)
    ask = """
import http.client, sys
for method, path in [("GET", "/v1/me"), ("POST", "/v1/runs"), ("GET", "/v1/sandboxes/register"),
                     ("POST", "/v1/sandboxes/register/../../runs"), ("POST", "/v1/sandboxes/register?x=1"),
                     ("POST", "//v1/sandboxes/register"), ("POST", "http://127.0.0.1:80/v1/sandboxes/register"),
                     ("GET", "/metadata/task")]:
    connection = http.client.HTTPConnection("127.0.0.1", 7101)
    connection.request(method, path)
    print(connection.getresponse().status)
"""
    assert sandbox.run(id="ask", argv=["python", "-c", ask])["stdout"].split() == ["403"] * 7 + ["200"]
    assert machine.front.requests == before


def test_a_second_request_cannot_be_smuggled_out(machine: Machine, sandbox: RunningSandbox) -> None:
    before = len(machine.front.requests)
    smuggle = """
import socket
s = socket.create_connection(("127.0.0.1", 7101))
s.sendall(b"GET /metadata/task HTTP/1.1\\r\\nHost: x\\r\\nContent-Length: 5\\r\\nTransfer-Encoding: chunked\\r\\n\\r\\n"
          b"0\\r\\n\\r\\nPOST /v1/runs HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n")
answer = b""
while chunk := s.recv(4096):
    answer += chunk
print(answer.count(b"HTTP/1.1"))
"""
    assert sandbox.run(id="smuggle", argv=["python", "-c", smuggle], timeout_s=10)["stdout"] == "1\n"
    assert len(machine.front.requests) == before


def test_a_body_without_end_is_refused(sandbox: RunningSandbox) -> None:
    post = """
import http.client
connection = http.client.HTTPConnection("127.0.0.1", 7101)
connection.request("POST", "/v1/sandboxes/register", b"x" * 100_000)
print(connection.getresponse().status)
"""
    assert sandbox.run(id="endless", argv=["python", "-c", post])["stdout"] == "413\n"


def test_silent_connections_do_not_starve_the_registration_of_others(machine: Machine) -> None:
    with machine.sandbox() as silent:
        connect = "socket.create_connection(('127.0.0.1', 7101))"
        hold = f"import socket, time\nc = [{connect} for _ in range(40)]\ntime.sleep(60)"
        silent.run(id="silent", argv=["python", "-c", hold], wait_s=0)
        with machine.sandbox() as other:
            assert other.shell("echo ok") == "ok\n"


def test_twenty_sandboxes_start_at_once(machine: Machine) -> None:
    outputs: list[str] = []

    def use() -> None:
        with machine.sandbox() as sandbox:
            outputs.append(sandbox.shell("echo $((6 * 7))"))

    threads = [threading.Thread(target=use) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outputs == ["42\n"] * 20


def test_killing_a_container_leaves_no_process(machine: Machine) -> None:
    with machine.sandbox() as sandbox:
        sandbox.run(id="stay", shell="setsid sleep 4712 & setsid nohup sleep 4712 &", wait_s=1)
        assert len(_processes("4712")) >= 2
        machine.wait(sandbox.container.kill())
        _until_none("4712")


def test_a_program_that_cannot_be_executed_is_told_by_its_exit_code(machine: Machine) -> None:
    with machine.container(machine.task(command=("no-such-program",))) as container:
        assert machine.wait(container.wait()).exit_code == 127


def test_a_sandbox_whose_id_is_a_path_is_refused(machine: Machine) -> None:
    task = machine.task()
    task.environment["SANDBOX_ID"] = "../../etc"
    with pytest.raises(CannotStartError, match="SANDBOX_ID"), machine.container(task):
        pass


def _processes(argument: str) -> list[psutil.Process]:
    return [p for p in psutil.process_iter(["cmdline"]) if (p.info["cmdline"] or []) == ["sleep", argument]]


def _until_none(argument: str) -> None:
    until(lambda: not _processes(argument), "the end of all processes")
