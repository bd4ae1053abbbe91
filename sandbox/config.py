"""What the program is told by its environment, and the limits it holds itself to."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

MIB = 1024 * 1024


class ConfigError(Exception):
    """A variable is missing or makes no sense; the message names it."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds that keep one tenant's commands from exhausting the program's own memory."""

    body_bytes: int = 12 * MIB
    """A command's request: room for 10 MiB of stdin and its JSON."""
    file_bytes: int = 10 * MIB
    """One uploaded file."""
    retained_output_bytes: int = 64 * MIB
    """Outputs of all commands together; the oldest finished ones give way first."""
    running_commands: int = 64
    known_commands: int = 20_000
    listed_files: int = 10_000
    kill_grace_s: float = 2.0
    """From SIGTERM to SIGKILL of a command that ran out of time."""


@dataclass(frozen=True, slots=True)
class Config:
    """The container's environment, parsed. `registration_token` is spent by the first registration."""

    sandbox_id: str
    registration_token: str
    platform_url: str
    metadata_uri: str
    port: int = 7100
    workspace: Path = Path("/workspace")
    max_processes: int | None = None
    limits: Limits = Limits()

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Self:
        """Parse; raises `ConfigError` naming the first variable that is missing or malformed."""
        maximum = _text(environment, "SANDBOX_MAX_PROCESSES", default="")
        return cls(
            sandbox_id=_text(environment, "SANDBOX_ID"),
            registration_token=_text(environment, "SANDBOX_REGISTRATION_TOKEN"),
            platform_url=_url(environment, "RUNYARD_PLATFORM_URL"),
            metadata_uri=_url(environment, "ECS_CONTAINER_METADATA_URI_V4"),
            port=_number("SANDBOX_PORT", _text(environment, "SANDBOX_PORT", default="7100"), maximum=65535),
            max_processes=_number("SANDBOX_MAX_PROCESSES", maximum, maximum=1_000_000) if maximum else None,
        )


def _text(environment: Mapping[str, str], name: str, default: str | None = None) -> str:
    value = environment.get(name) or default
    if value is None:
        raise ConfigError(f"{name} is not set; the platform sets it when it starts the task.")
    return value


def _url(environment: Mapping[str, str], name: str) -> str:
    value = _text(environment, name).rstrip("/")
    parts = urlsplit(value)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ConfigError(f"{name} is not an http or https URL.")
    return value


def _number(name: str, text: str, *, maximum: int) -> int:
    if not text.isdigit() or not 1 <= int(text) <= maximum:
        raise ConfigError(f"{name} must be a number between 1 and {maximum}.")
    return int(text)
