"""A run's life: it ends once, and says why."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from shared.kernel import ids
from shared.kernel.errors import InvalidTransition
from shared.runs.model import (
    EndReason,
    Run,
    RunEnded,
    RunStatus,
    StepLimitReached,
    TimeLimitReached,
    diagnose,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def run(status: RunStatus = RunStatus.QUEUED) -> Run:
    return Run(
        created_by_user=None,
        created_by_actor=None,
        id=ids.new(),
        agent_id=ids.new(),
        agent_version=1,
        status=status,
        end_reason=None,
        input="task",
        output=None,
        failure=None,
        budget_microusd=1_000,
        cost_microusd=0,
        timeout_s=60,
        metadata={},
        created_at=NOW,
        started_at=None,
        ended_at=None,
    )


ENDINGS: list[Callable[[Run], Run]] = [
    lambda it: it.succeed(NOW, output="done", cost_microusd=5),
    lambda it: it.fail(NOW, reason=EndReason.INTERNAL, failure="broken", cost_microusd=5),
    lambda it: it.cancel(NOW, cost_microusd=5),
]


def test_beginning_again_keeps_the_first_start() -> None:
    begun = run().begin(NOW, needs_sandbox=True)
    assert begun.status is RunStatus.PREPARING
    assert begun.begin(NOW + timedelta(seconds=9), needs_sandbox=True) == begun


@pytest.mark.parametrize("end", ENDINGS)
@pytest.mark.parametrize("again", ENDINGS)
def test_a_run_ends_once(end: Callable[[Run], Run], again: Callable[[Run], Run]) -> None:
    ended = end(run(RunStatus.RUNNING))
    assert ended.ended
    assert ended.cost_microusd == 5
    with pytest.raises((RunEnded, InvalidTransition)):
        again(ended)


@pytest.mark.parametrize("end", ENDINGS)
def test_an_ended_run_takes_no_step(end: Callable[[Run], Run]) -> None:
    with pytest.raises(RunEnded):
        end(run()).proceed(NOW, step_no=1, max_steps=9)
    with pytest.raises(RunEnded):
        end(run()).begin(NOW, needs_sandbox=False)


def test_the_last_step_allowed_is_taken_and_the_next_is_not() -> None:
    begun = run().begin(NOW, needs_sandbox=False)
    assert begun.proceed(NOW, step_no=3, max_steps=3).status is RunStatus.RUNNING
    with pytest.raises(StepLimitReached):
        begun.proceed(NOW, step_no=4, max_steps=3)


def test_a_run_that_took_too_long_takes_no_further_step() -> None:
    begun = run().begin(NOW, needs_sandbox=False)
    begun.proceed(NOW + timedelta(seconds=60), step_no=1, max_steps=3)
    with pytest.raises(TimeLimitReached):
        begun.proceed(NOW + timedelta(seconds=61), step_no=1, max_steps=3)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        ("BudgetExceeded", EndReason.BUDGET_EXHAUSTED),
        ("StepLimitReached", EndReason.STEP_LIMIT),
        ("TimeLimitReached", EndReason.TIME_LIMIT),
        ("States.Timeout", EndReason.SANDBOX_LOST),
        ("ProviderTimedOut", EndReason.PROVIDER_FAILED),
        ("SandboxLost", EndReason.SANDBOX_LOST),
        ("KeyError", EndReason.INTERNAL),
        ("", EndReason.INTERNAL),
    ],
)
def test_an_error_has_its_reason(error: str, reason: EndReason) -> None:
    assert diagnose({"Error": error, "Cause": '{"errorMessage": "text"}'})[0] is reason


def test_an_inner_error_shows_nothing_of_itself() -> None:
    _, told = diagnose({"Error": "KeyError", "Cause": '{"errorMessage": "password=hunter2"}'})
    assert "hunter2" not in told


@pytest.mark.parametrize("cause", ["plain text", "[1]", '{"errorMessage": "the task ended"}', None])
def test_any_cause_is_told_as_text(cause: str | None) -> None:
    _, told = diagnose({"Error": "SandboxLost", "Cause": cause})
    assert told


def test_only_a_run_knows_its_own_changes() -> None:
    first = run()
    first.begin(NOW, needs_sandbox=False)
    assert first == replace(first)
    assert first.started_at is None
