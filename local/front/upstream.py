"""Which APIs the door forwards to: read from the deployed stacks' outputs, again whenever a deploy has changed them."""

import json
from dataclasses import dataclass
from pathlib import Path

from local.settings import LOOPBACK


@dataclass(frozen=True, slots=True)
class Apis:
    """The ids of the deployed APIs; None for one that isn't deployed."""

    http: str | None
    websocket: str | None


class Upstream:
    """The emulator's address and, looked up by file time so that it costs one `stat`, the APIs deployed to it."""

    def __init__(self, outputs_file: Path, emulator_port: int) -> None:
        self._file = outputs_file
        self._port = emulator_port
        self._read_at: tuple[int, int] | None = None
        self._apis = Apis(None, None)

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self._port}"

    def apis(self) -> Apis:
        """Return the APIs as of the last deploy."""
        try:
            found = self._file.stat()
        except FileNotFoundError:
            return Apis(None, None)
        version = (found.st_mtime_ns, found.st_ino)
        if version != self._read_at:
            self._apis = _apis_in(self._file)
            self._read_at = version
        return self._apis

    def host(self, api_id: str) -> str:
        """Return the Host by which the emulator, as API Gateway, tells one API from another."""
        return f"{api_id}.execute-api.localhost:{self._port}"

    def websocket_url(self, api_id: str, query: str) -> str:
        """Return the API's address with its only stage; the emulator takes the id in the path as well."""
        return f"ws://{LOOPBACK}:{self._port}/_aws/execute-api/{api_id}/ws" + (f"?{query}" if query else "")


def _apis_in(file: Path) -> Apis:
    outputs: dict[str, str] = {}
    for stack in json.loads(file.read_text()).values():
        outputs |= stack
    return Apis(http=outputs.get("HttpApiId"), websocket=outputs.get("WebSocketApiId"))
