"""How the application reaches a home's Postgres, and that a killed one comes back whoever has its pid by then."""

import stat
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import psutil
import psycopg
import pytest

from local import processes, supervising
from local.parts import PARTS, POSTGRES
from local.parts.postgres import database_url
from local.settings import Home
from tests.integration.local.homes import Screen, new_home, stop_everything

_OTHERS = [part for part in PARTS if part is not POSTGRES]


@pytest.fixture(scope="module")
def with_postgres() -> Iterator[Callable[[Path], Home]]:
    """`with_postgres(folder)`: a home in this folder whose Postgres runs."""
    with ExitStack() as ending:

        def make(folder: Path) -> Home:
            made = new_home(folder)
            ending.callback(stop_everything, made)
            start(made)
            return made

        yield make


@pytest.fixture(scope="module")
def postgres_home(tmp_path_factory: pytest.TempPathFactory, with_postgres: Callable[[Path], Home]) -> Home:
    return with_postgres(tmp_path_factory.mktemp("socket"))


def start(home: Home) -> None:
    with supervising.locked(home):
        supervising.start_missing(home, Screen().terminal, leaving=_OTHERS)


def server_address(home: Home) -> str | None:
    """Where the application's connection ends; None for a Unix socket."""
    with psycopg.connect(database_url(home)) as connection:
        found = connection.execute("SELECT host(inet_server_addr())").fetchone()
    assert found is not None
    address: str | None = found[0]
    return address


def test_the_application_comes_through_a_socket_that_is_its_owners_alone(postgres_home: Home) -> None:
    assert server_address(postgres_home) is None
    socket = postgres_home.run / f".s.PGSQL.{postgres_home.ports.postgres}"
    assert stat.S_ISSOCK(socket.stat().st_mode)
    assert stat.S_IMODE(socket.stat().st_mode) == 0o700


def test_the_socket_asks_for_the_password_too(postgres_home: Home) -> None:
    url = database_url(postgres_home)
    password = url.split(":")[2].split("@")[0]
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(url.replace(password, "wrong"))


@pytest.mark.parametrize("name", ["d" * 100, "one, two", 'so "called"'], ids=["too deep", "comma", "quotes"])
def test_where_the_folder_can_hold_no_socket_it_is_tcp(
    tmp_path: Path, with_postgres: Callable[[Path], Home], name: str
) -> None:
    assert server_address(with_postgres(tmp_path / name)) == "127.0.0.1"


def test_a_folder_may_have_any_other_name(
    tmp_path_factory: pytest.TempPathFactory, with_postgres: Callable[[Path], Home]
) -> None:
    assert server_address(with_postgres(tmp_path_factory.mktemp("any") / "it's 50% @ü?#&")) is None


def test_a_killed_server_starts_again_although_another_program_has_its_pid(postgres_home: Home) -> None:
    record = processes.read_record(POSTGRES.record_file(postgres_home))
    assert record is not None
    killed = psutil.Process(record.pid)
    children = killed.children()
    killed.kill()
    psutil.wait_procs([killed, *children], timeout=20)
    locks = (
        postgres_home.state / "postgres" / "postmaster.pid",
        postgres_home.run / f".s.PGSQL.{postgres_home.ports.postgres}.lock",
    )
    with subprocess.Popen(["sleep", "60"]) as other:
        for lock in locks:
            _, rest = lock.read_text().split("\n", 1)
            lock.write_text(f"{other.pid}\n{rest}")

        start(postgres_home)

        assert server_address(postgres_home) is None
        other.kill()
