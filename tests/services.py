"""Real PostgreSQL and redis-server for tests: the home's own parts, in a folder and on ports of their own."""

import itertools
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import psutil
import psycopg
from psycopg import sql

from local import processes
from local.parts.emulator import EMULATOR
from local.parts.part import Part
from local.parts.postgres import DATABASE, POSTGRES, database_url, migration_database_url, superuser_url
from local.parts.redis import REDIS, redis_url
from local.settings import LOOPBACK, Home, read_home
from shared.kernel import migrating
from shared.kernel.settings import SchemaOwnerSettings

_MIGRATIONS = Path(__file__).resolve().parent.parent / "migrations"
_MEMORY = Path("/dev/shm")
_ROOM_BYTES = 4 * 2**30
# The machine won't lose power during a test; a killed server still finds all that it had written.
_HASTY = {"postgres": ("--fsync=off", "--full_page_writes=off"), "redis": ("--appendfsync", "no")}


@dataclass(slots=True)
class Server:
    """One part of a home, which a test may stop, kill and start again. `durable`: it waits for the disk as at home."""

    home: Home
    part: Part
    durable: bool = False
    _record: processes.Record | None = None

    def start(self) -> None:
        """Start it and return once it answers; nothing happens when it runs."""
        if self._record is not None and self._record.process() is not None:
            return
        self.part.prepare(self.home)
        command = self.part.command(self.home)
        hasty = () if self.durable else _HASTY.get(self.part.name, ())
        self._record = processes.start(
            replace(command, argv=(*command.argv, *hasty)),
            record_file=self.part.record_file(self.home),
            log_file=self.part.log_file(self.home),
            fingerprint="test",
            marker=self.part.marker(self.home),
        )
        deadline = time.monotonic() + self.part.ready_within_s
        while not self.part.is_ready(self.home):
            alive = self._record.process() is not None
            if not alive or time.monotonic() > deadline:
                log = "\n".join(processes.last_lines(self.part.log_file(self.home), 20))
                raise RuntimeError(f"{self.part.name} did not start:\n{log}")
            time.sleep(0.02)
        self.part.settle(self.home)

    def process(self) -> psutil.Process:
        """Return the process that runs it, the parent of all it started; raise `RuntimeError` when it doesn't run."""
        found = None if self._record is None else self._record.process()
        if found is None:
            raise RuntimeError(f"{self.part.name} doesn't run")
        return found

    def stop(self) -> None:
        """Stop it in an orderly way; nothing happens when it doesn't run."""
        if self._record is not None and (process := self._record.process()):
            processes.stop(process, with_signal=self.part.stop_signal, grace_s=self.part.grace_s)
        self._end()

    def kill(self) -> None:
        """End it at once with everything it started, as a crash would."""
        if self._record is not None and (process := self._record.process()):
            process.kill()
            process.wait()
        self._end()

    def _end(self) -> None:
        processes.kill_leftovers(self.part.marker(self.home))
        self._record = None


@dataclass(slots=True)
class Services:
    """The servers of one test process, and the databases cloned from the migrated one."""

    home: Home
    postgres: Server
    redis: Server
    # Started by those tests that need AWS.
    emulator: Server
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    @property
    def redis_url(self) -> str:
        return redis_url(self.home)

    def clone(self) -> str:
        """Return the name of a new database, equal to the freshly migrated one."""
        name = f"test_{next(self._numbers)}"
        self.copy(DATABASE, name)
        return name

    def copy(self, source: str, target: str) -> None:
        """Make `target` anew, equal to `source`; nobody may be connected to either."""
        self.drop(target)
        self._administer(
            # Half the time of going through the write-ahead log.
            sql.SQL("CREATE DATABASE {} OWNER runyard_owner TEMPLATE {} STRATEGY FILE_COPY").format(
                sql.Identifier(target), sql.Identifier(source)
            )
        )

    def drop(self, name: str) -> None:
        self._administer(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    def environment(self, database: str) -> dict[str, str]:
        """Return what a function deployed with this database would be given."""
        return {
            "RUNYARD_STAGE": "test",
            "RUNYARD_DATABASE_URL": _in(database, database_url(self.home)),
            "RUNYARD_DATABASE_IAM_AUTH": "0",
            "RUNYARD_DATABASE_READER_URL": _in(database, database_url(self.home)),
            "RUNYARD_MIGRATION_DATABASE_URL": _in(database, migration_database_url(self.home)),
            "RUNYARD_REDIS_URL": self.redis_url,
        }

    def superuser_url(self, database: str) -> str:
        """Return how to look at a database past row-level security."""
        return superuser_url(self.home, database)

    def _administer(self, statement: sql.Composed) -> None:
        with psycopg.connect(superuser_url(self.home, "postgres"), autocommit=True) as connection:
            connection.execute(statement)


@contextmanager
def running(folder: Path, *, durable: bool = False) -> Iterator[Services]:
    """Run PostgreSQL, migrated to the newest revision, and Redis; both end with the block.

    Tests don't wait for the disk; what measures writes does, with `durable`.
    """
    home = read_home(
        {"RUNYARD_HOME": str(folder)} | dict(zip(_PORT_VARIABLES, _free_ports(len(_PORT_VARIABLES)), strict=True))
    )
    for place in (home.folder, home.logs, home.run):
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
    services = Services(home, Server(home, POSTGRES, durable), Server(home, REDIS, durable), Server(home, EMULATOR))
    with ExitStack() as cleanup:
        state = None if durable else _in_memory(cleanup)
        if state is None:
            home.state.mkdir(mode=0o700, exist_ok=True)
        else:
            home.state.symlink_to(state)
        for server in (services.postgres, services.redis):
            cleanup.callback(server.stop)
            server.start()
        migrating.upgrade(
            SchemaOwnerSettings(url=migration_database_url(home), password_secret_arn=None),
            _MIGRATIONS,
        )
        cleanup.callback(services.emulator.stop)
        yield services


def _in_memory(cleanup: ExitStack) -> Path | None:
    """Return a folder in memory, where there is room for one.

    Each test makes and drops a database of some 650 files. On a disk with ext4 each new file is then looked for among
    the lately deleted ones, and the later tests take ten times as long as the first.
    """
    if not _MEMORY.is_dir() or shutil.disk_usage(_MEMORY).free < _ROOM_BYTES:
        return None
    folder = Path(cleanup.enter_context(tempfile.TemporaryDirectory(prefix="runyard-tests-", dir=_MEMORY)))
    folder.chmod(0o755)  # PostgreSQL runs as a user of its own where root started it
    return folder


_PORT_VARIABLES = ("RUNYARD_POSTGRES_PORT", "RUNYARD_REDIS_PORT", "RUNYARD_EMULATOR_PORT")


def _free_ports(count: int) -> list[str]:
    with ExitStack() as held:
        probes = [held.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind((LOOPBACK, 0))
        return [str(probe.getsockname()[1]) for probe in probes]


def _in(database: str, url: str) -> str:
    return url.removesuffix(f"/{DATABASE}") + f"/{database}"
