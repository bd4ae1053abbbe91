"""HTTP API of runs: create, follow, cancel."""

from typing import Annotated, Any

from fastapi import Depends, Header, Query, Response

from shared.billing.estimate_schemas import DRY_RUN, DryRunAsked, DryRunOut
from shared.kernel import db, ids
from shared.kernel.caller import Caller
from shared.kernel.fields import AgentId, Page, RunId
from shared.kernel.http import lambda_handler, once, require
from shared.kernel.idempotency import Once
from shared.kernel.pagination import Slice, cut, slice_of
from shared.kernel.routing import Router
from shared.kernel.waiting import Wait, wait_for
from shared.runs import service
from shared.runs.model import RunStatus
from shared.runs.schemas import CreateRun, RunOut, StepList, StepOut, server_sent

router = Router(prefix="/v1", tags=["runs"])
Reader = Annotated[Caller, Depends(require("runs:read"))]
Writer = Annotated[Caller, Depends(require("runs:write"))]
Starter = Annotated[Caller, Depends(require("runs:write", spends=True))]
# An answer of API Gateway is bounded and buffered: it carries the events there are, or a heartbeat after this long.
_HEARTBEAT_S = 15
EVENT_STREAM: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Events beyond `Last-Event-ID`, or a heartbeat; ask again with the last `id`.",
        "content": {"text/event-stream": {"schema": {"type": "string"}}},
    },
    204: {"description": "The run has ended and all its events have been sent."},
}


@router.post("/agents/{agent_id}/runs", status_code=202, response_model=RunOut, responses=DRY_RUN)
def create_run(
    agent_id: AgentId,
    body: CreateRun,
    caller: Starter,
    once: Annotated[Once, Depends(once)],
    wait: Wait = 0,
    dry_run: DryRunAsked = False,
) -> RunOut | Response:
    if dry_run:
        with db.tenant(caller) as tx:
            return DryRunOut.answer(
                service.dry_run(
                    tx, caller, agent_id=agent_id, budget_microusd=body.budget_microusd, timeout_s=body.timeout_s
                )
            )

    def create() -> RunOut:
        return RunOut.of(
            service.create_run(
                tx,
                caller,
                agent_id=agent_id,
                text=body.input,
                budget_microusd=body.budget_microusd,
                timeout_s=body.timeout_s,
                metadata=body.metadata,
            )
        )

    with db.tenant(caller) as tx:
        created = once(tx, create)
    service.start_soon(caller, created.id)
    return wait_for(lambda: get_run(created.id, caller), lambda run: run.ended_at is not None, seconds=wait)


@router.get("/runs")
def list_runs(
    asked: Annotated[Slice, slice_of("run")],
    caller: Reader,
    agent_id: Annotated[AgentId | None, Query()] = None,
    status: Annotated[RunStatus | None, Query()] = None,
) -> Page[RunOut]:
    with db.tenant(caller) as tx:
        found, more = cut(service.list_runs(tx, caller, asked, agent_id=agent_id, status=status), asked)
    cursor = ids.show("run", found[-1].id) if more else None
    return Page(data=[RunOut.of(run) for run in found], has_more=more, next_cursor=cursor)


@router.get("/runs/{run_id}")
def get_run(run_id: RunId, caller: Reader) -> RunOut:
    with db.tenant(caller) as tx:
        return RunOut.of(service.get_run(tx, caller, run_id))


@router.get("/runs/{run_id}/steps")
def list_run_steps(run_id: RunId, caller: Reader) -> StepList:
    with db.tenant(caller) as tx:
        return StepList(data=[StepOut.of(step) for step in service.list_steps(tx, caller, run_id)])


@router.get("/runs/{run_id}/events", response_class=Response, responses=EVENT_STREAM)
def follow_run(run_id: RunId, caller: Reader, last_event_id: Annotated[int, Header(ge=0)] = 0) -> Response:
    def look() -> tuple[bool, str]:
        with db.tenant(caller) as tx:
            run, events = service.events_after(tx, caller, run_id, last_event_id)
        return run.ended, server_sent(events)

    ended, text = wait_for(look, lambda seen: seen[0] or bool(seen[1]), seconds=_HEARTBEAT_S)
    if ended and not text:
        # By the standard this tells an EventSource that it has seen everything and need not come again.
        return Response(status_code=204)
    return Response(f"retry: 100\n\n{text or ': heartbeat\n\n'}", media_type="text/event-stream")


@router.post("/runs/{run_id}/cancel")
def cancel_run(run_id: RunId, caller: Writer) -> RunOut:
    return RunOut.of(service.cancel_run(caller, run_id))


handler = lambda_handler(router)
