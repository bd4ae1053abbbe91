"""Makes the sandbox known to the platform: its address, read from ECS, against a token of its own making."""

import asyncio
import http.client
import json
import logging
import random
import time
from urllib.parse import urlsplit

from sandbox.config import Config

# The platform calls the program back before it answers.
_TIMEOUT_S = 30.0
_PATIENCE_S = 60.0
_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 3.0
# Refusals that pass: timeout, too early, too many requests.
_TRANSIENT_STATUSES = frozenset({408, 425, 429})

logger = logging.getLogger("sandbox.registration")


class RegistrationError(Exception):
    """The platform refused this sandbox, or could not be reached in time. Trying on is pointless."""


class _PlatformUnavailableError(Exception):
    """Worth another attempt."""


async def register(config: Config, access_token: str, *, patience_s: float = _PATIENCE_S) -> None:
    """Register, trying again with back-off while the platform is unavailable. Raises `RegistrationError`."""
    deadline = time.monotonic() + patience_s
    pause = _FIRST_PAUSE_S
    while True:
        try:
            await asyncio.to_thread(_attempt, config, access_token)
        except (_PlatformUnavailableError, OSError, http.client.HTTPException) as error:
            reason = f"{type(error).__name__}: {error}"
        else:
            logger.info("registered as %s", config.sandbox_id)
            return
        if time.monotonic() + pause > deadline:
            raise RegistrationError(f"The platform could not be reached for {patience_s:.0f} s. {reason}")
        logger.warning("registration postponed: %s", reason)
        await asyncio.sleep(pause * random.uniform(0.75, 1.25))  # noqa: S311 - jitter, not a secret
        pause = min(pause * 2, _LONGEST_PAUSE_S)


def _attempt(config: Config, access_token: str) -> None:
    status, answer = _request("GET", f"{config.metadata_uri}/task")
    if status != http.HTTPStatus.OK:
        raise _PlatformUnavailableError(f"task metadata answered {status}")
    body = {
        "sandbox_id": config.sandbox_id,
        "registration_token": config.registration_token,
        "address": f"http://{_address(answer)}:{config.port}",
        "access_token": access_token,
    }
    status, _ = _request("POST", f"{config.platform_url}/v1/sandboxes/register", json.dumps(body).encode())
    if status == http.HTTPStatus.OK:
        return
    if status >= http.HTTPStatus.INTERNAL_SERVER_ERROR or status in _TRANSIENT_STATUSES:
        raise _PlatformUnavailableError(f"registration answered {status}")
    raise RegistrationError(f"The platform refused the registration with status {status}.")


def _address(answer: bytes) -> str:
    """Return the task's own IPv4 address from ECS task metadata, version 4."""
    try:
        return str(json.loads(answer)["Containers"][0]["Networks"][0]["IPv4Addresses"][0])
    except (ValueError, LookupError, TypeError) as error:
        # The network is attached a moment after the container starts.
        raise _PlatformUnavailableError("task metadata names no address yet") from error


def _request(method: str, url: str, body: bytes | None = None) -> tuple[int, bytes]:
    """One request without redirects or proxies. The standard client: larger ones cost 0.3 s of the start."""
    parts = urlsplit(url)
    connect = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = connect(parts.netloc, timeout=_TIMEOUT_S)
    try:
        connection.request(method, parts.path, body, {"Content-Type": "application/json"} if body else {})
        response = connection.getresponse()
        return response.status, response.read(1024 * 1024)
    finally:
        connection.close()
