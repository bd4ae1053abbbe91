"""One machine for all tests of jails, and one emulator for all tests of the stand-in."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from local.fargate.sandbox_environment import ensure_sandbox_environment
from local.parts.emulator import EMULATOR
from local.settings import REPOSITORY, Home, read_home
from tests.integration.fargate.ecs_account import EcsAccount
from tests.integration.sandbox.machine import FrontDoor, Machine, RunningSandbox
from tests.waiting import until


@pytest.fixture(scope="session")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    machine = Machine(tmp_path_factory.mktemp("home"))
    yield machine
    machine.close()


@pytest.fixture(scope="module")
def sandbox(machine: Machine) -> Iterator[RunningSandbox]:
    with machine.sandbox() as sandbox:
        yield sandbox


@pytest.fixture(scope="session")
def front() -> Iterator[FrontDoor]:
    front = FrontDoor()
    yield front
    front.close()


@pytest.fixture(scope="session")
def emulator_home(tmp_path_factory: pytest.TempPathFactory, front: FrontDoor) -> Home:
    """A home for an emulator and a stand-in, with the sandboxes' environment built."""
    folder = tmp_path_factory.mktemp("fargate-home")
    ports = {"RUNYARD_FRONT_PORT": str(front.port), "RUNYARD_EMULATOR_PORT": str(_free_port())}
    home = read_home({"RUNYARD_HOME": str(folder)} | ports)
    for needed in (home.run, home.state, home.logs):
        needed.mkdir(parents=True)
    ensure_sandbox_environment(home)
    EMULATOR.prepare(home)
    return home


@pytest.fixture(scope="session")
def start_emulator(emulator_home: Home) -> Iterator[Callable[[], "subprocess.Popen[bytes]"]]:
    """`start_emulator()` starts the emulator and waits until it answers. It ends with the session."""
    with ExitStack() as ending:

        def start() -> subprocess.Popen[bytes]:
            command = EMULATOR.command(emulator_home)
            with (emulator_home.logs / "emulator.log").open("ab") as log:
                process = subprocess.Popen(
                    command.argv, env=dict(command.environment), cwd=command.folder, stdout=log, stderr=log
                )
            ending.callback(_end, process)
            until(lambda: EMULATOR.is_ready(emulator_home), "the emulator", within_s=EMULATOR.ready_within_s)
            return process

        yield start


@pytest.fixture(scope="session")
def ecs(emulator_home: Home, start_emulator: Callable[[], "subprocess.Popen[bytes]"]) -> EcsAccount:
    """The emulator's ECS with a cluster, a task definition, and a queue for the events of stopped tasks."""
    start_emulator()
    return EcsAccount(emulator_home.emulator_url)


@pytest.fixture(scope="session")
def start_stand_in(emulator_home: Home) -> Iterator[Callable[[], "subprocess.Popen[bytes]"]]:
    """`start_stand_in()` starts `python -m local.fargate` and waits until it is ready. It ends with the session."""
    ready = emulator_home.run / "fargate.ready"
    with ExitStack() as ending:

        def start() -> subprocess.Popen[bytes]:
            ready.unlink(missing_ok=True)
            environment = {"PATH": os.environ["PATH"]} | emulator_home.part_environment()
            with (emulator_home.logs / "fargate.log").open("ab") as log:
                process = subprocess.Popen(
                    [sys.executable, "-m", "local.fargate"], cwd=REPOSITORY, env=environment, stdout=log, stderr=log
                )
            ending.callback(_end, process)
            until(ready.exists, "the stand-in")
            return process

        yield start


@pytest.fixture
def stand_in(start_stand_in: Callable[[], "subprocess.Popen[bytes]"]) -> Iterator["subprocess.Popen[bytes]"]:
    """A running stand-in for one test."""
    process = start_stand_in()
    yield process
    _end(process)


def _end(process: "subprocess.Popen[bytes]") -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
    process.wait()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])
