"""HTTP API of estimates: what something would cost, and how good such estimates were."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal

from fastapi import Depends, Query
from pydantic import AwareDatetime, ConfigDict, Field

from shared.agents.model import MAX_BUDGET_MICROUSD
from shared.billing import service as billing
from shared.billing.estimate_schemas import EstimateOut, EstimatesReport
from shared.billing.service import Estimate
from shared.inference import service as inference
from shared.inference.schemas import CreateChatCompletion, CreateEmbeddings
from shared.kernel import clock, db
from shared.kernel.caller import Caller
from shared.kernel.db import Tx
from shared.kernel.fields import AgentId, Input
from shared.kernel.http import lambda_handler, once, require
from shared.kernel.idempotency import Once
from shared.kernel.routing import Router
from shared.memory import service as memory
from shared.runs import service as runs
from shared.sandboxes import service as sandboxes
from shared.sandboxes.model import DEFAULT_TTL_S, MAX_TTL_S

DEFAULT_RANGE = timedelta(weeks=12)
# Far enough from the ends of the calendar for any arithmetic.
Moment = Annotated[AwareDatetime, Field(ge=datetime(2000, 1, 1, tzinfo=UTC), lt=datetime(3000, 1, 1, tzinfo=UTC))]


class RunToEstimate(Input):
    """A run of an agent that you may read."""

    kind: Literal["run"]
    agent_id: AgentId
    budget_microusd: Annotated[int | None, Field(ge=1, le=MAX_BUDGET_MICROUSD, description="By default its own.")] = (
        None
    )
    timeout_s: Annotated[int | None, Field(ge=10, le=3000, description="By default the agent's.")] = None


class SandboxToEstimate(Input):
    """A sandbox of your own."""

    kind: Literal["sandbox"]
    ttl_s: Annotated[int, Field(ge=60, le=MAX_TTL_S)] = DEFAULT_TTL_S


class ChatToEstimate(CreateChatCompletion):
    """A request as for POST /v1/chat/completions."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"kind": "chat", "messages": [{"role": "user", "content": "Why?"}]}]}
    )
    kind: Literal["chat"]


class EmbeddingsToEstimate(CreateEmbeddings):
    """A request as for POST /v1/embeddings."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"kind": "embeddings", "input": ["blue"]}]})
    kind: Literal["embeddings"]


class MemoryToEstimate(Input):
    """Saving a memory."""

    kind: Literal["memory"]
    content: str = Field(description="Up to 100,000 bytes of text.", examples=["Ada prefers metric units."])


type ToEstimate = Annotated[
    RunToEstimate | SandboxToEstimate | ChatToEstimate | EmbeddingsToEstimate | MemoryToEstimate,
    Field(discriminator="kind"),
]
# To look at what a thing would cost is to read: whoever may see what such things cost, may.
SCOPES = {"run": "runs:read", "sandbox": "sandboxes:read", "memory": "memories:read"}

router = Router(prefix="/v1", tags=["estimates"])


@router.post("/estimates")
def create_estimate(
    body: ToEstimate,
    caller: Annotated[Caller, Depends(require("inference:read"))],
    once: Annotated[Once, Depends(once)],
) -> EstimateOut:
    if body.kind in SCOPES:
        caller.require(SCOPES[body.kind])
    with db.tenant(caller) as tx:
        return once(tx, lambda: EstimateOut.of(body.kind, _estimate(tx, caller, body)))


@router.get("/reports/estimates")
def report_estimates(
    caller: Annotated[Caller, Depends(require("usage:read"))],
    since: Annotated[Moment | None, Query(description="Default: 12 weeks before `until`.")] = None,
    until: Annotated[Moment | None, Query(description="Not included. Default: now.")] = None,
) -> EstimatesReport:
    until = until or clock.now()
    since = since or until - DEFAULT_RANGE
    with db.reading(caller) as tx:
        return EstimatesReport.of(billing.accuracy(tx, since, until), since=since, until=until)


def _estimate(tx: Tx, caller: Caller, body: ToEstimate) -> Estimate:
    match body:
        case RunToEstimate():
            return runs.estimate_run(
                tx,
                caller,
                agent_id=body.agent_id,
                budget_microusd=body.budget_microusd,
                timeout_s=body.timeout_s,
            )
        case SandboxToEstimate():
            return sandboxes.estimate_sandbox(tx, caller, ttl_s=body.ttl_s)
        case ChatToEstimate():
            return inference.estimate_chat(tx, caller, body.request())
        case EmbeddingsToEstimate():
            return inference.estimate_embeddings(tx, caller, body.texts, model=body.model)
        case MemoryToEstimate():
            return memory.estimate_save(tx, caller, body.content)


handler = lambda_handler(router)
