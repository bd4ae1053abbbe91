"""Makes homes for tests: a folder of their own, free ports, a terminal whose text can be read."""

import io
import random
import socket
from pathlib import Path

from rich.console import Console

from local import supervising
from local.settings import LOOPBACK, Home, read_home
from local.terminal import Terminal

_PORTS_OF_A_HOME = 6


def free_port_base() -> int:
    """Return a port from which on all the ports of a home are free."""
    while True:
        base = random.randrange(20000, 30000, 10)
        if all(_is_free(base + number) for number in range(_PORTS_OF_A_HOME)):
            return base


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((LOOPBACK, port)) != 0


def new_home(folder: Path, **variables: str) -> Home:
    """Return a home in this folder, on free ports, with the offline model."""
    return read_home({"RUNYARD_HOME": str(folder), "RUNYARD_PORT_BASE": str(free_port_base())} | variables)


class Screen:
    """A terminal whose text can be read."""

    def __init__(self) -> None:
        self._written = io.StringIO()
        self.terminal = Terminal(Console(file=self._written, width=200, highlight=False, soft_wrap=True))

    @property
    def text(self) -> str:
        return self._written.getvalue()


def stop_everything(home: Home) -> None:
    """Stop every part of the home."""
    with supervising.locked(home):
        supervising.stop_all(home, Screen().terminal)
