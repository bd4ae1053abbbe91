"""Where the home lives and listens, and what it is told from outside: the one place in `local` that reads variables."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from local.errors import HomeError

REPOSITORY = Path(__file__).resolve().parent.parent
REGION = "us-east-1"
ACCOUNT = "000000000000"
# Letters of a home come from here; nothing leaves the machine, `make mail` shows them.
MAIL_FROM = "runyard@localhost.localdomain"
LOOPBACK = "127.0.0.1"
OFFLINE_KEY = "offline"
STACK_PREFIX = "runyard-local-"

_DEFAULT_PORT_BASE = 7070
# Each part's distance from the base, in the order in which `up` shows them.
_PORT_OFFSETS = {"front": 0, "emulator": 1, "postgres": 2, "redis": 3, "model": 4, "gateway": 5}


@dataclass(frozen=True, slots=True)
class Ports:
    """TCP ports on loopback, by part."""

    front: int
    emulator: int
    postgres: int
    redis: int
    model: int
    gateway: int


@dataclass(frozen=True, slots=True)
class Provider:
    """The OpenAI-compatible endpoint that agents think with; without a key it is the scripted stand-in."""

    base_url: str
    chat_model: str
    embedding_model: str
    api_key: str

    @property
    def is_scripted(self) -> bool:
        return self.api_key == OFFLINE_KEY


@dataclass(frozen=True, slots=True)
class Home:
    """One home: its folder, its ports, its model provider. Two homes never share a file or a port."""

    folder: Path
    port_base: int
    ports: Ports
    provider: Provider

    @property
    def state(self) -> Path:
        """What must survive `down`: databases, the emulator's state, workspaces."""
        return self.folder / "state"

    @property
    def logs(self) -> Path:
        return self.folder / "logs"

    @property
    def run(self) -> Path:
        """Pid files, the lock and generated configuration of running parts."""
        return self.folder / "run"

    @property
    def temporary(self) -> Path:
        return self.folder / "tmp"

    @property
    def secrets_file(self) -> Path:
        return self.folder / "secrets.json"

    @property
    def endpoints_file(self) -> Path:
        """What the CDK app is told about this home."""
        return self.folder / "endpoints.json"

    @property
    def outputs_file(self) -> Path:
        """What the deployed stacks say about themselves; the front door reads it."""
        return self.folder / "outputs.json"

    @property
    def gateway_file(self) -> Path:
        """What the gateway runs with, as deployed: the layers and variables of its function behind the API."""
        return self.folder / "gateway.json"

    @property
    def emulator_venv(self) -> Path:
        return self.folder / "emulator-venv"

    @property
    def emulator_url(self) -> str:
        return f"http://{LOOPBACK}:{self.ports.emulator}"

    @property
    def public_url(self) -> str:
        return f"http://{LOOPBACK}:{self.ports.front}"

    def aws_environment(self) -> dict[str, str]:
        """Return the variables with which any AWS client talks to this home's emulator and to nothing else."""
        return {
            "AWS_ENDPOINT_URL": self.emulator_url,
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_ACCESS_KEY_ID": "local",
            "AWS_SECRET_ACCESS_KEY": "local",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def part_environment(self) -> dict[str, str]:
        """Return the variables from which a part in Python finds its place in this home."""
        ports = {port_variable(part): str(getattr(self.ports, part)) for part in _PORT_OFFSETS}
        return {"RUNYARD_HOME": str(self.folder), "RUNYARD_PORT_BASE": str(self.port_base)} | ports


def port_variable(part: str) -> str:
    """Return the name of the variable that moves this part's port."""
    return f"RUNYARD_{part.upper()}_PORT"


def read_home(environment: Mapping[str, str] = os.environ) -> Home:
    """Return the home that the environment describes. Raises `HomeError` for a port that is none."""
    folder = Path(environment.get("RUNYARD_HOME") or REPOSITORY / ".runyard").expanduser().absolute()
    base = _port(environment, "RUNYARD_PORT_BASE", _DEFAULT_PORT_BASE)
    ports = Ports(**{part: _port(environment, port_variable(part), base + n) for part, n in _PORT_OFFSETS.items()})
    return Home(folder=folder, port_base=base, ports=ports, provider=_provider(environment, ports))


def _port(environment: Mapping[str, str], name: str, default: int) -> int:
    text = environment.get(name) or str(default)
    if not text.isdigit() or not 1024 <= int(text) <= 65535:
        raise HomeError(f"{name}={text} is not a port.", hint=f"Set {name} to a number between 1024 and 65535.")
    return int(text)


def _provider(environment: Mapping[str, str], ports: Ports) -> Provider:
    key = environment.get("OPENAI_API_KEY")
    if not key:
        return Provider(
            base_url=f"http://{LOOPBACK}:{ports.model}/v1",
            chat_model="runyard-offline",
            embedding_model="runyard-offline-embed",
            api_key=OFFLINE_KEY,
        )
    return Provider(
        base_url=(environment.get("OPENAI_BASE_URL") or "https://api.openai.com/v1").rstrip("/"),
        chat_model=environment.get("RUNYARD_MODEL") or "gpt-5-mini",
        embedding_model=environment.get("RUNYARD_EMBEDDING_MODEL") or "text-embedding-3-small",
        api_key=key,
    )
