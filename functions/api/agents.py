"""HTTP API of agents: create, change, list, versions, sharing."""

from typing import Annotated

from fastapi import Depends, Query

from shared.agents import service
from shared.agents.schemas import AgentOut, AgentVersionOut, CreateAgent, GrantOut, ShareAgent, UpdateAgent
from shared.kernel import db, ids
from shared.kernel.caller import Caller
from shared.kernel.fields import AgentId, GrantId, Page
from shared.kernel.http import lambda_handler, once, require
from shared.kernel.idempotency import Once
from shared.kernel.pagination import DEFAULT_LIMIT, MAX_LIMIT, Slice, cut, slice_of
from shared.kernel.routing import Router

router = Router(prefix="/v1/agents", tags=["agents"])
Reader = Annotated[Caller, Depends(require("agents:read"))]
Writer = Annotated[Caller, Depends(require("agents:write"))]


@router.post("", status_code=201)
def create_agent(body: CreateAgent, caller: Writer, once: Annotated[Once, Depends(once)]) -> AgentOut:
    def create() -> AgentOut:
        config = body.config.to_model()
        return AgentOut.of(service.create_agent(tx, caller, name=body.name, config=config, metadata=body.metadata))

    with db.tenant(caller) as tx:
        return once(tx, create)


@router.get("")
def list_agents(asked: Annotated[Slice, slice_of("agent")], caller: Reader) -> Page[AgentOut]:
    with db.tenant(caller) as tx:
        found, more = cut(service.list_agents(tx, caller, asked), asked)
    cursor = ids.show("agent", found[-1].id) if more else None
    return Page(data=[AgentOut.of(agent) for agent in found], has_more=more, next_cursor=cursor)


@router.get("/{agent_id}")
def get_agent(agent_id: AgentId, caller: Reader) -> AgentOut:
    with db.tenant(caller) as tx:
        return AgentOut.of(service.get_agent(tx, caller, agent_id))


@router.patch("/{agent_id}")
def update_agent(agent_id: AgentId, body: UpdateAgent, caller: Writer) -> AgentOut:
    config = None if body.config is None else body.config.to_model()
    with db.tenant(caller) as tx:
        agent = service.update_agent(
            tx, caller, agent_id=agent_id, name=body.name, config=config, metadata=body.metadata
        )
    return AgentOut.of(agent)


@router.get("/{agent_id}/versions")
def list_agent_versions(
    agent_id: AgentId,
    caller: Reader,
    limit: Annotated[int, Query(ge=1, le=MAX_LIMIT)] = DEFAULT_LIMIT,
    cursor: Annotated[int | None, Query(ge=1, description="`next_cursor` of the page before.")] = None,
) -> Page[AgentVersionOut]:
    with db.tenant(caller) as tx:
        found, more = cut(service.list_versions(tx, caller, agent_id, before=cursor, limit=limit), Slice(limit=limit))
    next_cursor = str(found[-1].version) if more else None
    return Page(data=[AgentVersionOut.of(each) for each in found], has_more=more, next_cursor=next_cursor)


@router.post("/{agent_id}/grants", status_code=201)
def share_agent(agent_id: AgentId, body: ShareAgent, caller: Writer, once: Annotated[Once, Depends(once)]) -> GrantOut:
    with db.tenant(caller) as tx:
        return once(tx, lambda: GrantOut.of(service.share_agent(tx, caller, agent_id, **dict(body))))


@router.get("/{agent_id}/grants")
def list_agent_grants(agent_id: AgentId, asked: Annotated[Slice, slice_of("grant")], caller: Reader) -> Page[GrantOut]:
    with db.tenant(caller) as tx:
        found, more = cut(service.list_grants(tx, caller, agent_id, asked), asked)
    cursor = ids.show("grant", found[-1].id) if more else None
    return Page(data=[GrantOut.of(grant) for grant in found], has_more=more, next_cursor=cursor)


@router.delete("/{agent_id}/grants/{grant_id}", status_code=204)
def unshare_agent(agent_id: AgentId, grant_id: GrantId, caller: Writer) -> None:
    with db.tenant(caller) as tx:
        service.unshare_agent(tx, caller, agent_id, grant_id)


handler = lambda_handler(router)
