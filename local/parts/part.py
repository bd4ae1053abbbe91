"""What the home needs to know of each of its parts."""

import hashlib
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from local.processes import Command
from local.settings import Home


def _nothing(_: Home) -> None:
    """Most parts need no preparation."""


def _always(_: Home) -> bool:
    return True


def _no_complaint(_: Home) -> str:
    return ""


def _no_port(_: Home) -> int | None:
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A process of the home.

    `prepare` makes what the process needs before its start, `settle` what it needs once it answers; both run at each
    start and change nothing the second time. `is_due` says whether the home has come so far that the process can run.
    `complaint` says what keeps a running part from doing its work. `sources`
    are the files whose change asks for a restart.
    """

    name: str
    command: Callable[[Home], Command]
    is_ready: Callable[[Home], bool]
    port: Callable[[Home], int | None] = _no_port
    prepare: Callable[[Home], None] = _nothing
    settle: Callable[[Home], None] = _nothing
    is_due: Callable[[Home], bool] = _always
    complaint: Callable[[Home], str] = _no_complaint
    sources: tuple[Path, ...] = ()
    stop_signal: signal.Signals = signal.SIGTERM
    grace_s: float = 10
    ready_within_s: float = 30

    def record_file(self, home: Home) -> Path:
        return home.run / f"{self.name}.pid"

    def log_file(self, home: Home) -> Path:
        return home.logs / f"{self.name}.log"

    def marker(self, home: Home) -> str:
        """Return what tells this part's processes from those of any other home."""
        return f"{home.folder}#{self.name}"

    def fingerprint(self, home: Home) -> str:
        """Return a digest of all that a running process can't pick up by itself: command, environment, program."""
        command = self.command(home)
        digest = hashlib.sha256(repr((command.argv, sorted(command.environment.items()))).encode())
        for file in source_files(self.sources):
            digest.update(str(file).encode() + b"\0" + file.read_bytes())
        return digest.hexdigest()[:16]


def source_files(places: tuple[Path, ...]) -> list[Path]:
    """Return the files at and under these places in a stable order, leaving out what Python writes."""
    files: set[Path] = set()
    for place in places:
        files |= {place} if place.is_file() else {file for file in place.rglob("*") if file.is_file()}
    return sorted(file for file in files if "__pycache__" not in file.parts)
