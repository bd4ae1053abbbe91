"""HTTP API of sandboxes: start, register, get, list, stop."""

from typing import Annotated

from fastapi import Depends, Response

from shared.billing.estimate_schemas import DRY_RUN, DryRunAsked, DryRunOut
from shared.kernel import db, ids
from shared.kernel.caller import Caller
from shared.kernel.fields import Page, SandboxId
from shared.kernel.http import lambda_handler, once, require
from shared.kernel.idempotency import Once
from shared.kernel.pagination import Slice, cut, slice_of
from shared.kernel.routing import Router
from shared.kernel.waiting import Wait, wait_for
from shared.sandboxes import service
from shared.sandboxes.model import StopReason
from shared.sandboxes.schemas import CreateSandbox, RegisterSandbox, RegistrationOut, SandboxOut

router = Router(prefix="/v1/sandboxes", tags=["sandboxes"])
Reader = Annotated[Caller, Depends(require("sandboxes:read"))]
Writer = Annotated[Caller, Depends(require("sandboxes:write"))]
Starter = Annotated[Caller, Depends(require("sandboxes:write", spends=True))]


@router.post("", status_code=202, response_model=SandboxOut, responses=DRY_RUN)
def create_sandbox(
    body: CreateSandbox,
    caller: Starter,
    once: Annotated[Once, Depends(once)],
    wait: Wait = 0,
    dry_run: DryRunAsked = False,
) -> SandboxOut | Response:
    if dry_run:
        with db.tenant(caller) as tx:
            return DryRunOut.answer(service.dry_run(tx, caller, ttl_s=body.ttl_s))
    with db.tenant(caller) as tx:
        created = once(tx, lambda: SandboxOut.of(service.create(tx, caller, ttl_s=body.ttl_s, metadata=body.metadata)))
    service.launch(caller, created.id)
    return wait_for(lambda: get_sandbox(created.id, caller), lambda seen: seen.status != "starting", seconds=wait)


@router.post("/register")
def register_sandbox(body: RegisterSandbox) -> RegistrationOut:
    service.register(
        sandbox_id=body.sandbox_id,
        token=body.registration_token,
        address=body.address,
        access_token=body.access_token,
    )
    return RegistrationOut(sandbox_id=body.sandbox_id)


@router.get("")
def list_sandboxes(asked: Annotated[Slice, slice_of("sbx")], caller: Reader) -> Page[SandboxOut]:
    with db.tenant(caller) as tx:
        found, more = cut(service.list_sandboxes(tx, caller, asked), asked)
    return Page(
        data=[SandboxOut.of(sandbox) for sandbox in found],
        has_more=more,
        next_cursor=ids.show("sbx", found[-1].id) if more else None,
    )


@router.get("/{sandbox_id}")
def get_sandbox(sandbox_id: SandboxId, caller: Reader) -> SandboxOut:
    return SandboxOut.of(service.get(caller, sandbox_id))


@router.post("/{sandbox_id}/stop")
def stop_sandbox(sandbox_id: SandboxId, caller: Writer) -> SandboxOut:
    return SandboxOut.of(service.end(caller, sandbox_id, reason=StopReason.REQUESTED))


handler = lambda_handler(router)
