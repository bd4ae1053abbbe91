"""The program inside a sandbox, over HTTP: the platform's only way in. What runs there is hostile."""

import json
from functools import cache
from typing import Any
from urllib.parse import quote

import urllib3
from urllib3.exceptions import HTTPError

from shared.kernel.errors import InvalidRequest, NotFound
from shared.kernel.text import storable
from shared.sandboxes.model import MAX_FILE_BYTES, FileRefused, FileTooLarge, Sandbox, SandboxLost

_CONNECT_S = 2
# Longer than the program lets anyone wait for a command.
_READ_S = 35
# Two outputs of a megabyte each, as JSON with every character escaped, are below this.
_MAX_ANSWER_BYTES = max(MAX_FILE_BYTES, 16 * 1024 * 1024)


@cache
def _pool() -> urllib3.PoolManager:
    timeout = urllib3.Timeout(connect=_CONNECT_S, read=_READ_S)
    # Redirects would let hostile code send us elsewhere.
    return urllib3.PoolManager(timeout=timeout, retries=urllib3.Retry(connect=2, read=0, redirect=False), maxsize=8)


def execute(sandbox: Sandbox, *, command_id: str, command: dict[str, Any], wait_s: int) -> dict[str, Any]:
    """Run a command, or join it when it runs or ran already, and return its state after at most `wait_s`."""
    return _object(_call(sandbox, "POST", "/commands", {"id": command_id, "wait_s": wait_s, **command}))


def poll(sandbox: Sandbox, *, command_id: str, wait_s: int) -> dict[str, Any]:
    """Return the state of a command that was sent before."""
    return _object(_call(sandbox, "GET", f"/commands/{command_id}?wait_s={wait_s}"))


def write_file(sandbox: Sandbox, path: str, content: bytes) -> dict[str, Any]:
    return _object(_call(sandbox, "PUT", file_url(path), content))


def read_file(sandbox: Sandbox, path: str) -> bytes:
    return _call(sandbox, "GET", file_url(path))


def file_url(path: str) -> str:
    """Return the program's address of a file; raise `FileRefused` for a path that would lead out of its files.

    HTTP clients resolve `..` before they send: the program, which refuses it too, would never see it.
    """
    if {".", ".."} & set(path.split("/")):
        raise FileRefused("path: no segment may be . or ..", param="path")
    return f"/files/{quote(path.lstrip('/'))}"


def list_files(sandbox: Sandbox, path: str) -> list[dict[str, Any]]:
    found = _object(_call(sandbox, "GET", f"/files?path={quote(path, safe='')}")).get("data")
    if not isinstance(found, list):
        raise SandboxLost("The sandbox gave an answer that is none.")
    return found


def _call(sandbox: Sandbox, method: str, path: str, body: dict[str, Any] | bytes | None = None) -> bytes:
    address, token = sandbox.reachable()
    headers = {"Authorization": f"Bearer {token}"}
    if isinstance(body, dict):
        body = json.dumps(body).encode()
        headers["Content-Type"] = "application/json"
    try:
        answer = _pool().request(
            method, address + path, headers=headers, body=body, redirect=False, preload_content=False
        )
        try:
            data = answer.read(_MAX_ANSWER_BYTES + 1, decode_content=False)
        finally:
            answer.close() if answer.length_remaining else answer.release_conn()
    except HTTPError as error:
        raise SandboxLost("The sandbox can't be reached: its task has ended or is cut off.") from error
    if len(data) > _MAX_ANSWER_BYTES:
        raise SandboxLost("The sandbox gave an answer beyond all limits.")
    if answer.status != 200:
        raise _refusal(answer.status, data)
    return data


def _object(data: bytes) -> dict[str, Any]:
    try:
        found = storable(json.loads(data))
    except ValueError as error:
        raise SandboxLost("The sandbox gave an answer that is none.") from error
    if not isinstance(found, dict):
        raise SandboxLost("The sandbox gave an answer that is none.")
    return found


def _refusal(status: int, data: bytes) -> FileRefused | FileTooLarge | InvalidRequest | NotFound | SandboxLost:
    try:
        message = str(storable(json.loads(data)["error"]["message"]))[:500]
    except (ValueError, KeyError, TypeError):
        return SandboxLost(f"The sandbox answered with status {status}.")
    match status:
        case 404:
            return NotFound(message)
        case 413:
            return FileTooLarge(message)
        case _ if status >= 500:
            return SandboxLost(message)
        case _:
            return FileRefused(message)
