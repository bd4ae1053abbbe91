"""What stands in the way of a start: taken ports, a locked home, a part that fails, a pid that is somebody else's."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator

import psutil
import pytest

from local import processes, supervising
from local.errors import HomeError
from local.parts import PARTS, REDIS
from local.parts.part import Part
from local.processes import Command
from local.settings import LOOPBACK, Home, read_home
from local.supervising import Condition
from tests.integration.local.homes import Screen


@pytest.fixture
def taken_port(home: Home) -> Iterator[int]:
    """Redis's port of the home, taken by this process."""
    with socket.socket() as listener:
        listener.bind((LOOPBACK, home.ports.redis))
        listener.listen()
        yield home.ports.redis


def python_part(program: str, *, ready_within_s: float = 5) -> Part:
    return Part(
        name="program",
        command=lambda home: Command((sys.executable, "-c", program), dict(os.environ), home.folder),
        is_ready=lambda _: False,
        ready_within_s=ready_within_s,
    )


def test_a_taken_port_is_named_in_the_message(home: Home, screen: Screen, taken_port: int) -> None:
    with supervising.locked(home), pytest.raises(HomeError) as raised:
        supervising.start_missing(home, screen.terminal)

    assert f"Port {taken_port}, which redis needs, is taken by process {os.getpid()}" in raised.value.message
    assert "RUNYARD_REDIS_PORT" in raised.value.hint


@pytest.mark.usefixtures("taken_port")
def test_a_taken_port_leaves_nothing_started(home: Home, screen: Screen) -> None:
    with supervising.locked(home), pytest.raises(HomeError):
        supervising.start_missing(home, screen.terminal)

    assert {supervising.look(home, part).condition for part in PARTS} == {Condition.STOPPED}


def test_a_part_that_fails_takes_those_started_with_it_along(
    home: Home, screen: Screen, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing = python_part("print('the disk is full'); raise SystemExit(1)")
    monkeypatch.setattr(supervising, "PARTS", (REDIS, failing))

    with supervising.locked(home), pytest.raises(HomeError, match="program ended while it was starting") as raised:
        supervising.start_missing(home, screen.terminal)

    assert "the disk is full" in raised.value.message
    assert supervising.look(home, REDIS).condition is Condition.STOPPED


def test_a_part_that_never_answers_is_given_up(home: Home, screen: Screen, monkeypatch: pytest.MonkeyPatch) -> None:
    silent = python_part("import time; time.sleep(60)", ready_within_s=0.2)
    monkeypatch.setattr(supervising, "PARTS", (silent,))

    with supervising.locked(home), pytest.raises(HomeError, match="did not answer within"):
        supervising.start_missing(home, screen.terminal)

    assert processes.kill_leftovers(silent.marker(home)) == 0


def test_two_commands_never_work_on_one_home(home: Home) -> None:
    with (
        supervising.locked(home),
        pytest.raises(HomeError, match=f"at work on this home: process {os.getpid()}"),
        supervising.locked(home),
    ):
        pytest.fail("the lock was taken twice")


def test_a_lock_ends_with_the_process_that_held_it(home: Home) -> None:
    program = (
        "import sys; from local.settings import read_home; from local.supervising import locked\n"
        "with locked(read_home()): print('held', flush=True); sys.stdin.read()"
    )
    environment = {**os.environ, **home.part_environment()}
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(HomeError, match=f"process {holder.pid}"), supervising.locked(home):
            pytest.fail("the lock was taken twice")
        holder.kill()

    with supervising.locked(home):
        pass


def test_a_pid_that_now_belongs_to_another_program_is_not_taken_for_the_part(home: Home) -> None:
    with supervising.locked(home):
        started_long_ago = processes.Record(os.getpid(), 1.0, "any")
        REDIS.record_file(home).write_text(f"{os.getpid()}\n1.0\nany\n")

    assert started_long_ago.process() is None
    assert supervising.look(home, REDIS).condition is Condition.CRASHED
    assert supervising.stop(home, REDIS)
    assert psutil.Process(os.getpid()).is_running()


def test_what_ignores_the_request_to_end_is_killed_after_its_grace(home: Home) -> None:
    stubborn = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('on', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", stubborn], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        assert not processes.stop(psutil.Process(child.pid), with_signal=signal.SIGTERM, grace_s=0.1)
        assert child.wait(30) == -signal.SIGKILL


@pytest.mark.parametrize("value", ["99x", "80", "70000"])
def test_what_is_no_port_is_refused_by_the_name_of_its_variable(value: str) -> None:
    with pytest.raises(HomeError, match=f"RUNYARD_MODEL_PORT={value} is not a port"):
        read_home({"RUNYARD_MODEL_PORT": value})


def test_each_port_follows_the_base_unless_it_is_set() -> None:
    ports = read_home({"RUNYARD_PORT_BASE": "9000", "RUNYARD_REDIS_PORT": "6400"}).ports
    assert (ports.front, ports.emulator, ports.postgres, ports.redis, ports.model) == (9000, 9001, 9002, 6400, 9004)
    assert ports.gateway == 9005


def test_without_a_key_the_model_is_the_scripted_one() -> None:
    provider = read_home({"OPENAI_BASE_URL": "https://elsewhere.test/v1"}).provider
    assert provider.is_scripted
    assert provider.base_url == "http://127.0.0.1:7074/v1"


def test_with_a_key_the_model_is_the_providers() -> None:
    given = {"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": "https://elsewhere.test/v1/", "RUNYARD_MODEL": "large"}
    provider = read_home(given).provider
    assert not provider.is_scripted
    assert (provider.base_url, provider.chat_model) == ("https://elsewhere.test/v1", "large")
