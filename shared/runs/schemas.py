"""Public JSON of runs, steps and events."""

import json
from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import Field

from shared.agents.model import MAX_BUDGET_MICROUSD
from shared.kernel import clock
from shared.kernel.fields import AgentId, Input, Metadata, Output, RunId
from shared.runs.model import EndReason, Run, RunEvent, RunStatus, Step, ToolCall


class CreateRun(Input):
    input: Annotated[
        str,
        Field(
            min_length=1,
            max_length=100_000,
            description="The task.",
            examples=["What is the sum of the primes below 100?"],
        ),
    ]
    budget_microusd: Annotated[
        int | None,
        Field(ge=1, le=MAX_BUDGET_MICROUSD, description="What the run may cost at most; by default the agent's."),
    ] = None
    timeout_s: Annotated[int | None, Field(ge=10, le=3000, description="By default the agent's.")] = None
    metadata: Metadata = {}


class RunOutput(Output):
    text: str


class RunFailure(Output):
    code: EndReason
    message: str


class RunOut(Output):
    """A run. Cost, duration and output are final once `status` is succeeded, failed or cancelled."""

    id: RunId
    object: Literal["run"] = "run"
    agent_id: AgentId
    agent_version: int
    status: RunStatus
    end_reason: EndReason | None
    input: str
    output: RunOutput | None
    failure: RunFailure | None
    budget_microusd: int
    cost_microusd: int
    timeout_s: int
    metadata: Metadata
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    duration_ms: int | None = Field(description="From start to end.")

    @classmethod
    def of(cls, run: Run) -> Self:
        ended = run.ended_at if run.started_at else None
        return cls(
            id=run.id,
            agent_id=run.agent_id,
            agent_version=run.agent_version,
            status=run.status,
            end_reason=run.end_reason if run.ended else None,
            input=run.input,
            output=None if run.output is None else RunOutput(text=run.output),
            failure=_failure(run),
            budget_microusd=run.budget_microusd,
            cost_microusd=run.cost_microusd,
            timeout_s=run.timeout_s,
            metadata=run.metadata,
            created_at=run.created_at,
            started_at=run.started_at,
            ended_at=run.ended_at,
            duration_ms=clock.elapsed_ms(run.started_at, ended) if run.started_at and ended else None,
        )


class ToolCallOut(Output):
    call_no: int
    name: str = Field(examples=["sandbox.exec"])
    arguments: str = Field(description="JSON, as the model wrote it.")
    status: str = Field(description="requested, succeeded or failed.")
    result: str | None = Field(description="JSON, as the model was told.")
    started_at: datetime | None
    ended_at: datetime | None
    latency_ms: int | None

    @classmethod
    def of(cls, call: ToolCall) -> Self:
        return cls(
            call_no=call.call_no,
            name=call.name,
            arguments=call.arguments,
            status=call.status,
            result=call.result,
            started_at=call.started_at,
            ended_at=call.ended_at,
            latency_ms=clock.elapsed_ms(call.started_at, call.ended_at) if call.started_at and call.ended_at else None,
        )


class StepOut(Output):
    """One model call and the tool calls it asked for."""

    object: Literal["run_step"] = "run_step"
    step_no: int
    status: str = Field(description="running or done.")
    attempts: int = Field(description="More than one: a worker died and another went on.")
    text: str | None = Field(description="What the model said.")
    cost_microusd: int
    started_at: datetime
    ended_at: datetime | None
    latency_ms: int | None = Field(description="Of the model call.")
    tool_calls: list[ToolCallOut]

    @classmethod
    def of(cls, step: Step) -> Self:
        return cls(
            step_no=step.step_no,
            status=step.status,
            attempts=step.attempts,
            text=(step.message or {}).get("content"),
            cost_microusd=step.cost_microusd,
            started_at=step.started_at,
            ended_at=step.ended_at,
            latency_ms=clock.elapsed_ms(step.started_at, step.ended_at) if step.ended_at else None,
            tool_calls=[ToolCallOut.of(call) for call in step.calls],
        )


class StepList(Output):
    object: Literal["list"] = "list"
    data: list[StepOut]


def server_sent(events: list[RunEvent]) -> str:
    """Return events in the format of server-sent events; `id` is the event's number."""
    return "".join(
        f"id: {event.seq}\nevent: {event.type}\ndata: {json.dumps(_event(event), ensure_ascii=False)}\n\n"
        for event in events
    )


def _event(event: RunEvent) -> dict[str, Any]:
    return {"seq": event.seq, "type": event.type, "created_at": event.created_at.isoformat(), **event.data}


def _failure(run: Run) -> RunFailure | None:
    if not run.ended or run.failure is None or run.end_reason is None:
        return None
    return RunFailure(code=run.end_reason, message=run.failure)
