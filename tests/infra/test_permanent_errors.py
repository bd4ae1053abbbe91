"""The state machine retries what may pass and nothing that can't."""

import json
from pathlib import Path
from typing import Any

import pytest

from shared.inference import errors as inference
from shared.kernel import errors
from shared.runs import model as runs
from shared.sandboxes import model as sandboxes

MACHINE = json.loads((Path(__file__).resolve().parents[2] / "infra_cdk/state_machines/agent_run.asl.json").read_text())


def _retried_never() -> list[set[str]]:
    found: list[set[str]] = []

    def walk(value: Any) -> None:
        if isinstance(value, dict):
            if value.get("MaxAttempts") == 0:
                found.append(set(value["ErrorEquals"]) - {"States.Timeout"})
            for each in value.values():
                walk(each)
        elif isinstance(value, list):
            for each in value:
                walk(each)

    walk(MACHINE)
    return found


def test_every_task_has_the_same_list_of_errors_that_no_retry_helps() -> None:
    lists = _retried_never()
    assert len(lists) == 7
    # Act alone looks once more for a sandbox that it could not reach.
    assert all(each | {"SandboxLost"} == lists[0] for each in lists)


@pytest.mark.parametrize("name", sorted(_retried_never()[0]))
def test_each_of_them_is_an_error_of_ours_that_is_not_retryable(name: str) -> None:
    error = next(getattr(module, name) for module in (runs, sandboxes, inference, errors) if hasattr(module, name))
    assert issubclass(error, errors.RunyardError)
    assert not error.retryable


def test_every_error_with_an_end_reason_of_its_own_is_among_them() -> None:
    assert set(runs.REASON_OF_ERROR) - {"States.Timeout"} <= _retried_never()[0]
