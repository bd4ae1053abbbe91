"""The program's HTTP interface: routes, authentication and the error envelope."""

import hmac
from collections.abc import AsyncIterable, Awaitable, Callable
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from sandbox.command_messages import CommandRequest, Wait
from sandbox.commands import CommandRegistry
from sandbox.config import MIB, Limits
from sandbox.errors import SandboxError
from sandbox.files import Workspace

_LONGEST_DISCARDED_BYTES = 64 * MIB
_CODES = {404: "not_found", 405: "method_not_allowed"}


def build_app(commands: CommandRegistry, workspace: Workspace, access_token: str, limits: Limits) -> ASGIApp:
    """Return the application; all but `GET /health` asks for `Authorization: Bearer <access_token>`."""
    app = Starlette(
        routes=[
            Route("/health", _health),
            Route("/commands", _run_command, methods=["POST"]),
            Route("/commands/{command_id}", _get_command),
            Route("/files", _list_files),
            Route("/files/{path:path}", _write_file, methods=["PUT"]),
            Route("/files/{path:path}", _read_file),
            Route("/files/{path:path}", _remove_file, methods=["DELETE"]),
        ],
        exception_handlers={
            SandboxError: _sandbox_error,
            HTTPException: _http_error,
            msgspec.ValidationError: _invalid_request,
            msgspec.DecodeError: _invalid_request,
            ClientDisconnect: _client_gone,
            Exception: _internal_error,
        },
    )
    app.state.commands, app.state.workspace, app.state.limits = commands, workspace, limits
    return _Authentication(app, access_token)


class _Authentication:
    """Lets a request through that carries the access token, before its body is read."""

    def __init__(self, app: ASGIApp, access_token: str) -> None:
        self._app = app
        self._expected = f"Bearer {access_token}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] != "/health" and not self._is_authorized(scope):
            answer = _error(401, "unauthorized", "This needs the sandbox's access token as a bearer token.")
            answer.headers["Connection"] = "close"  # the body stays unread
            await answer(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _is_authorized(self, scope: Scope) -> bool:
        given = [value for name, value in scope["headers"] if name == b"authorization"]
        return len(given) == 1 and hmac.compare_digest(given[0], self._expected)


async def _health(_: Request) -> Response:
    return _json({"status": "ok"})


async def _run_command(request: Request) -> Response:
    body = await _body(request, request.app.state.limits.body_bytes)
    wanted = msgspec.json.decode(body, type=CommandRequest)
    command = request.app.state.commands.run(wanted)
    await command.wait(wanted.wait_s)
    return _json(command.result())


async def _get_command(request: Request) -> Response:
    wait_s = msgspec.convert(request.query_params.get("wait_s", "0"), Wait, strict=False)
    command = request.app.state.commands.get(request.path_params["command_id"])
    await command.wait(wait_s)
    return _json(command.result())


async def _list_files(request: Request) -> Response:
    path = request.query_params.get("path", ".")
    return _json({"data": await run_in_threadpool(request.app.state.workspace.list, path)})


async def _write_file(request: Request) -> Response:
    stream = request.stream()
    try:
        with request.app.state.workspace.upload(request.path_params["path"]) as upload:
            async for chunk in stream:
                await run_in_threadpool(upload.write, chunk)
            return _json(await run_in_threadpool(upload.commit))
    except SandboxError:
        await _discard_rest(stream)
        raise


async def _read_file(request: Request) -> Response:
    opened = await run_in_threadpool(request.app.state.workspace.open, request.path_params["path"])
    headers = {"Content-Length": str(opened.size_bytes), "Content-Type": "application/octet-stream"}
    return StreamingResponse(opened.chunks(), headers=headers)


async def _remove_file(request: Request) -> Response:
    await run_in_threadpool(request.app.state.workspace.remove, request.path_params["path"])
    return Response(status_code=204)


async def _body(request: Request, limit_bytes: int) -> bytes:
    body = bytearray()
    stream = request.stream()
    async for chunk in stream:
        body += chunk
        if len(body) > limit_bytes:
            await _discard_rest(stream)
            raise SandboxError(413, "request_too_large", f"A request may have {limit_bytes} bytes at most.")
    return bytes(body)


async def _discard_rest(stream: AsyncIterable[bytes]) -> None:
    """Read on after a refusal: a connection with unread data is reset, and the client would not see the answer."""
    left = _LONGEST_DISCARDED_BYTES
    async for chunk in stream:
        left -= len(chunk)
        if left < 0:
            break


def _json(content: Any, status: int = 200) -> Response:
    return Response(msgspec.json.encode(content), status, media_type="application/json")


def _error(status: int, code: str, message: str) -> Response:
    return _json({"error": {"code": code, "message": message}}, status)


type _Handler = Callable[[Request, Exception], Awaitable[Response]]


async def _sandbox_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, SandboxError)  # noqa: S101 - Starlette's signature is wider
    return _error(error.status, error.code, error.message)


async def _http_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101
    return _error(error.status_code, _CODES.get(error.status_code, "http_error"), error.detail)


async def _invalid_request(_: Request, error: Exception) -> Response:
    return _error(400, "invalid_request", str(error))


async def _client_gone(_: Request, __: Exception) -> Response:
    return Response(status_code=499)  # nobody reads it


async def _internal_error(_: Request, __: Exception) -> Response:
    # The server logs the traceback.
    return _error(500, "internal_error", "The program in the sandbox failed to handle this request.")
