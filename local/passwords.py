"""Passwords of the home's databases: made once, kept in a file that only its owner can read."""

import json
import secrets
from dataclasses import asdict, dataclass

from local.processes import write_atomically
from local.settings import Home


@dataclass(frozen=True, slots=True)
class Passwords:
    """One password for each role of Postgres, and Redis's."""

    superuser: str
    owner: str
    app: str
    redis: str


def read_passwords(home: Home) -> Passwords:
    """Return the home's passwords, making them on first use."""
    if not home.secrets_file.exists():
        made = Passwords(*(secrets.token_urlsafe(24) for _ in range(4)))
        write_atomically(home.secrets_file, json.dumps(asdict(made), indent=1))
    return Passwords(**json.loads(home.secrets_file.read_text()))
