"""A running home to measure: the one that RUNYARD_HOME names, or a fresh one that ends with the measurement."""

import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from uuid import uuid4

import httpx

from local import aws, supervising
from local.bringing_up import bring_up
from local.demo import Api
from local.settings import LOOPBACK, Home, read_home
from local.terminal import Terminal

_PORTS = 6
_FIRST_PORT, _LAST_PORT = 20_000, 30_000


@contextmanager
def home() -> Iterator[Home]:
    """Bring a home up for the block. One that was named goes on running; one of our own is stopped and deleted."""
    terminal = Terminal()
    if os.environ.get("RUNYARD_HOME"):
        named = read_home()
        bring_up(named, terminal)
        yield named
        return
    with fresh_home() as own:
        bring_up(own, terminal)
        yield own


@contextmanager
def fresh_home() -> Iterator[Home]:
    """Yield a home that isn't up yet, in a folder and on ports that nobody uses; it thinks with the offline model."""
    folder = Path(tempfile.mkdtemp(prefix="runyard-bench-home-"))
    own = read_home({"RUNYARD_HOME": str(folder / "home"), "RUNYARD_PORT_BASE": str(_free_ports())})
    try:
        yield own
    finally:
        if own.run.exists():
            with supervising.locked(own):
                supervising.stop_all(own, Terminal())
                supervising.delete_state(own)
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def customer(home: Home) -> Iterator[Api]:
    """Yield the API as a new org's first key sees it."""
    with httpx.Client(base_url=home.public_url, timeout=60, trust_env=False) as client:
        slug = f"bench-{uuid4().hex[:8]}"
        created = Api(client, aws.operator_key(home)).post("/v1/orgs", {"name": "Bench", "slug": slug})
        # What is measured is the platform, not its limits.
        org = f"/v1/orgs/{created['org']['id']}"
        client.put(f"{org}/subscription", json={"plan": "enterprise"}).raise_for_status()
        rates = dict.fromkeys(("read", "create", "model"), 60_000_000)
        client.put(f"{org}/quota", json={"rates": rates}).raise_for_status()
        yield Api(client, created["api_key"]["secret"])


def _free_ports() -> int:
    """Return the first of as many free ports in a row as a home has parts that listen."""
    for base in range(_FIRST_PORT, _LAST_PORT, 10):
        with ExitStack() as held:
            try:
                for port in range(base, base + _PORTS):
                    held.enter_context(socket.socket()).bind((LOOPBACK, port))
            except OSError:
                continue
            return base
    raise SystemExit(f"No {_PORTS} free ports in a row between {_FIRST_PORT} and {_LAST_PORT}.")
