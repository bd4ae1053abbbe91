"""A run is one execution of an agent for one tenant; it ends exactly once and never costs more than its budget."""

import json
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Self
from uuid import UUID

from shared.kernel import ids
from shared.kernel.caller import Attribution
from shared.kernel.errors import InvalidRequest, InvalidTransition, RunyardError

# Longer than any step may take: its function's timeout plus the retries of the state machine.
ZOMBIE_AFTER = timedelta(minutes=15)
# A worker that died is taken over after this long. Two workers on one step are wasteful, never wrong.
LEASE = timedelta(seconds=30)


class RunStatus(StrEnum):
    QUEUED = "queued"
    PREPARING = "preparing"
    RUNNING = "running"
    WAITING = "waiting"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


ENDED = frozenset({RunStatus.SUCCEEDED, RunStatus.FAILED, RunStatus.CANCELLED})


class EndReason(StrEnum):
    COMPLETED = "completed"
    BUDGET_EXHAUSTED = "budget_exhausted"
    STEP_LIMIT = "step_limit"
    TIME_LIMIT = "time_limit"
    PROVIDER_FAILED = "provider_failed"
    CANCELLED_BY_USER = "cancelled_by_user"
    SANDBOX_LOST = "sandbox_lost"
    QUOTA_EXCEEDED = "quota_exceeded"
    INTERNAL = "internal"


class RunEnded(RunyardError):
    """The run has ended, by another hand: this step has nothing left to do."""

    code = "run_ended"


class StepBusy(RunyardError):
    """Another worker holds this step, or its tool still runs: look again shortly."""

    code = "step_busy"
    retryable = True


class StepLimitReached(RunyardError):
    """The agent took all the steps it may take without coming to an end."""

    code = "step_limit"


class TimeLimitReached(RunyardError):
    """The run took longer than it may."""

    code = "time_limit"


class BudgetTooSmall(InvalidRequest):
    """The budget could not even pay for the sandbox that the agent needs."""

    code = "budget_too_small"


# What went wrong, by the name under which Step Functions reports it.
REASON_OF_ERROR = {
    "BudgetExceeded": EndReason.BUDGET_EXHAUSTED,
    "InsufficientCredits": EndReason.BUDGET_EXHAUSTED,
    "StepLimitReached": EndReason.STEP_LIMIT,
    "TimeLimitReached": EndReason.TIME_LIMIT,
    # Only the wait for the sandbox has a time-out of its own in the state machine.
    "States.Timeout": EndReason.SANDBOX_LOST,
    "ModelNotFound": EndReason.PROVIDER_FAILED,
    # No room for the run's sandbox.
    "QuotaExceeded": EndReason.QUOTA_EXCEEDED,
    "SandboxLost": EndReason.SANDBOX_LOST,
    "SandboxNotReady": EndReason.SANDBOX_LOST,
    "SandboxStartFailed": EndReason.SANDBOX_LOST,
}


def sandbox_ttl_s(timeout_s: int) -> int:
    """Return how long a run's sandbox may live: the run's own time and a minute to start and end."""
    return timeout_s + 60


def hold_until(now: datetime, timeout_s: int) -> datetime:
    """Return when a run's hold is released if nobody settles it: well after the run must have ended."""
    return now + timedelta(seconds=timeout_s) + 2 * ZOMBIE_AFTER


def diagnose(error: dict[str, Any]) -> tuple[EndReason, str]:
    """Return why a run fails and a sentence for its owner, from a Step Functions error object."""
    name = str(error.get("Error", ""))
    # The model gateway's errors about providers are a family: ProviderFailed, ProviderTimedOut, …
    family = EndReason.PROVIDER_FAILED if name.startswith("Provider") else EndReason.INTERNAL
    reason = REASON_OF_ERROR.get(name, family)
    if reason is EndReason.INTERNAL:
        return reason, "Something went wrong on our side; it has been recorded."
    try:
        message = json.loads(error.get("Cause") or "{}").get("errorMessage")
    except (ValueError, AttributeError):
        message = error.get("Cause")
    if name == "States.Timeout":
        message = "The sandbox did not start in time."
    return reason, str(message or name)[:1000]


@dataclass(frozen=True, slots=True)
class Run:
    """`created_by_user` is the person who started it, where a person did; `created_by_actor` that person or the key."""

    id: UUID
    created_by_user: UUID | None
    created_by_actor: str | None
    agent_id: UUID
    agent_version: int
    status: RunStatus
    end_reason: EndReason | None
    input: str
    output: str | None
    failure: str | None
    budget_microusd: int
    cost_microusd: int
    timeout_s: int
    metadata: dict[str, str]
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None

    @property
    def ended(self) -> bool:
        return self.status in ENDED

    @property
    def attribution(self) -> Attribution:
        """Return whose use it is, what the run uses."""
        return Attribution.of(
            actor_id=self.created_by_actor or "",
            person_id=self.created_by_user,
            agent_id=ids.show("agent", self.agent_id),
        )

    def begin(self, now: datetime, *, needs_sandbox: bool) -> Self:
        """Return it begun; unchanged when it has begun before."""
        if self.ended:
            raise RunEnded(f"The run is {self.status}.")
        if self.started_at is not None:
            return self
        status = RunStatus.PREPARING if needs_sandbox else RunStatus.RUNNING
        return replace(self, status=status, started_at=now)

    def proceed(self, now: datetime, *, step_no: int, max_steps: int) -> Self:
        """Return it running its next step; raise once it has ended or reached a limit."""
        if self.ended:
            raise RunEnded(f"The run is {self.status}.")
        if step_no > max_steps:
            raise StepLimitReached(f"The agent took its {max_steps} steps without coming to an end.")
        if self.started_at is not None and now - self.started_at > timedelta(seconds=self.timeout_s):
            raise TimeLimitReached(f"The run took longer than its {self.timeout_s} s.")
        return replace(self, status=RunStatus.RUNNING)

    def succeed(self, now: datetime, *, output: str, cost_microusd: int) -> Self:
        return self._end(RunStatus.SUCCEEDED, EndReason.COMPLETED, now, cost_microusd, output=output)

    def fail(self, now: datetime, *, reason: EndReason, failure: str, cost_microusd: int) -> Self:
        return self._end(RunStatus.FAILED, reason, now, cost_microusd, failure=failure)

    def cancel(self, now: datetime, *, cost_microusd: int) -> Self:
        """Return the cancelled run; raise `InvalidTransition` once it has ended otherwise."""
        if self.ended:
            raise InvalidTransition(f"The run has ended: it is {self.status}.")
        return self._end(RunStatus.CANCELLED, EndReason.CANCELLED_BY_USER, now, cost_microusd)

    def _end(
        self,
        status: RunStatus,
        reason: EndReason,
        now: datetime,
        cost_microusd: int,
        *,
        output: str | None = None,
        failure: str | None = None,
    ) -> Self:
        if self.ended:
            raise RunEnded(f"The run is {self.status}.")
        return replace(
            self,
            status=status,
            end_reason=reason,
            output=output,
            failure=failure,
            cost_microusd=cost_microusd,
            ended_at=now,
        )


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One call of a tool. `arguments` is what the model wrote, which may be anything; `result` is what it was told."""

    step_no: int
    call_no: int
    provider_call_id: str
    name: str
    arguments: str
    status: str
    result: str | None
    started_at: datetime | None
    ended_at: datetime | None

    @property
    def done(self) -> bool:
        return self.status != "requested"


@dataclass(frozen=True, slots=True)
class Step:
    """One model call and the tool calls it asked for. `message` is the assistant's message, once it is there."""

    step_no: int
    status: str
    attempts: int
    message: dict[str, Any] | None
    cost_microusd: int
    started_at: datetime
    ended_at: datetime | None
    calls: tuple[ToolCall, ...] = ()

    @property
    def done(self) -> bool:
        return self.status == "done"


@dataclass(frozen=True, slots=True)
class RunEvent:
    """What a run tells as it goes: numbered without gaps in the order of their commits."""

    seq: int
    type: str
    data: dict[str, Any]
    created_at: datetime
