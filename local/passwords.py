"""Secrets of the home itself: made once, kept in a file that only its owner can read."""

import json
import secrets
from dataclasses import dataclass, fields

from local.processes import write_atomically
from local.settings import Home


@dataclass(frozen=True, slots=True)
class Passwords:
    """One password for each role of Postgres, Redis's, and what the front door proves itself with to the functions."""

    superuser: str
    owner: str
    app: str
    redis: str
    edge: str


def read_passwords(home: Home) -> Passwords:
    """Return the home's passwords, making them on first use."""
    kept = json.loads(home.secrets_file.read_text()) if home.secrets_file.exists() else {}
    missing = [field.name for field in fields(Passwords) if field.name not in kept]
    if missing:
        kept |= {name: secrets.token_urlsafe(24) for name in missing}
        write_atomically(home.secrets_file, json.dumps(kept, indent=1))
    return Passwords(**kept)
