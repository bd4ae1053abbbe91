"""HTTP API of memory: save, search, get, list, delete."""

from typing import Annotated

from fastapi import Depends, Response

from shared.agents import service as agents
from shared.billing.estimate_schemas import DRY_RUN, DryRunAsked, DryRunOut
from shared.kernel import db, ids
from shared.kernel.caller import Caller
from shared.kernel.fields import MemoryId, Page
from shared.kernel.http import lambda_handler, once, require
from shared.kernel.idempotency import Once
from shared.kernel.pagination import Slice, cut, slice_of
from shared.kernel.routing import Router
from shared.memory import service
from shared.memory.schemas import CreateMemory, Hits, MemoryOut, SearchMemories

router = Router(prefix="/v1/memories", tags=["memory"])
type Reader = Annotated[Caller, Depends(require("memories:read"))]
type Writer = Annotated[Caller, Depends(require("memories:write"))]
# Both embed text.
type Saver = Annotated[Caller, Depends(require("memories:write", spends=True))]
type Searcher = Annotated[Caller, Depends(require("memories:read", spends=True))]
type OnceOnly = Annotated[Once, Depends(once)]
type Asked = Annotated[Slice, slice_of("mem")]


@router.post("", status_code=201, response_model=MemoryOut, responses=DRY_RUN)
def save_memory(
    body: CreateMemory, caller: Saver, once: OnceOnly, dry_run: DryRunAsked = False
) -> MemoryOut | Response:
    with db.tenant(caller) as tx:
        agents.check_may_teach(tx, caller, body.subject)
        if dry_run:
            return DryRunOut.answer(service.dry_run_save(tx, caller, **body.asked()))

    def effect(source_id: str) -> MemoryOut:
        return MemoryOut.of(service.save(caller, source_id=source_id, max_cost_microusd=None, **body.asked()))

    return once.around(caller, effect)


@router.post("/search", response_model=Hits | DryRunOut)
def search_memories(
    body: SearchMemories, caller: Searcher, once: OnceOnly, dry_run: DryRunAsked = False
) -> Hits | Response:
    if dry_run:
        with db.tenant(caller) as tx:
            return DryRunOut.answer(service.dry_run_search(tx, caller, **body.asked()))

    def effect(source_id: str) -> Hits:
        return Hits.of(service.search(caller, source_id=source_id, max_cost_microusd=None, **body.asked()))

    return once.around(caller, effect)


@router.get("")
def list_memories(asked: Asked, caller: Reader, subject: str | None = None) -> Page[MemoryOut]:
    with db.tenant(caller) as tx:
        memories, more = cut(service.list_memories(tx, caller, asked, subject=subject), asked)
    last = ids.show("mem", memories[-1].id) if more else None
    return Page(data=[MemoryOut.of(memory) for memory in memories], has_more=more, next_cursor=last)


@router.get("/{memory_id}")
def get_memory(memory_id: MemoryId, caller: Reader) -> MemoryOut:
    with db.tenant(caller) as tx:
        return MemoryOut.of(service.get(tx, caller, memory_id))


@router.delete("/{memory_id}", status_code=204)
def delete_memory(memory_id: MemoryId, caller: Writer) -> None:
    with db.tenant(caller) as tx:
        service.delete(tx, caller, memory_id)


handler = lambda_handler(router)
