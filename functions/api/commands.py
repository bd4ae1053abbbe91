"""HTTP API of what happens inside a sandbox: commands and files."""

from typing import Annotated

from fastapi import Depends, Query, Response

from shared.kernel.caller import Caller
from shared.kernel.fields import CommandId, SandboxId
from shared.kernel.http import lambda_handler, once, raw_body, require
from shared.kernel.idempotency import Once
from shared.kernel.routing import Router
from shared.kernel.waiting import MAX_WAIT_S, Wait
from shared.sandboxes import service
from shared.sandboxes.model import MAX_FILE_BYTES, FileTooLarge
from shared.sandboxes.schemas import CommandOut, ExecuteCommand, FileList, FileOut

router = Router(prefix="/v1/sandboxes", tags=["sandboxes"])
Reader = Annotated[Caller, Depends(require("sandboxes:read"))]
Writer = Annotated[Caller, Depends(require("sandboxes:write"))]


@router.post("/{sandbox_id}/commands")
def execute_command(
    sandbox_id: SandboxId,
    body: ExecuteCommand,
    caller: Writer,
    once: Annotated[Once, Depends(once)],
    wait: Wait = MAX_WAIT_S,
) -> CommandOut:
    def execute(source_id: str) -> CommandOut:
        request, wait_s = body.to_request(), min(wait, MAX_WAIT_S)
        return CommandOut.of(service.execute(caller, sandbox_id, request=request, source_id=source_id, wait_s=wait_s))

    return once.around(caller, execute, final=lambda command: command.ended_at is not None)


@router.get("/{sandbox_id}/commands/{command_id}")
def get_command(sandbox_id: SandboxId, command_id: CommandId, caller: Reader, wait: Wait = 0) -> CommandOut:
    return CommandOut.of(service.get_command(caller, sandbox_id, command_id, wait_s=min(wait, MAX_WAIT_S)))


@router.get("/{sandbox_id}/files")
def list_files(
    sandbox_id: SandboxId, caller: Reader, path: Annotated[str, Query(max_length=4096)] = "/workspace"
) -> FileList:
    return FileList(data=[FileOut(**found) for found in service.list_files(caller, sandbox_id, path=path)])


@router.get("/{sandbox_id}/files/{path:path}", response_class=Response)
def read_file(sandbox_id: SandboxId, path: str, caller: Reader) -> Response:
    return Response(service.read_file(caller, sandbox_id, path=path), media_type="application/octet-stream")


@router.put("/{sandbox_id}/files/{path:path}")
def write_file(
    sandbox_id: SandboxId, path: str, content: Annotated[bytes, Depends(raw_body)], caller: Writer
) -> FileOut:
    if len(content) > MAX_FILE_BYTES:
        raise FileTooLarge(f"A file may have up to {MAX_FILE_BYTES} bytes.")
    return FileOut(type="file", **service.write_file(caller, sandbox_id, path=path, content=content))


handler = lambda_handler(router)
