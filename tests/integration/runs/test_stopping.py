"""Stopping the execution of a run, at whatever moment, on the real emulator."""

import json
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest

from shared.kernel import ids, settings
from shared.runs import step_functions
from tests.emulator import Emulator
from tests.waiting import until

_STATES: dict[str, dict[str, Any]] = {
    "short": {"Type": "Pass", "End": True},
    "long": {"Type": "Wait", "Seconds": 600, "End": True},
}


@pytest.fixture(params=_STATES)
def machine(request: pytest.FixtureRequest, emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """What runs are coordinated by, for once ending at once or going on for long."""
    client = emulator.client("stepfunctions")
    arn = client.create_state_machine(
        name=f"stopping-{request.param}",
        definition=json.dumps({"StartAt": "Only", "States": {"Only": _STATES[request.param]}}),
        roleArn="arn:aws:iam::000000000000:role/test",
    )["stateMachineArn"]
    monkeypatch.setenv("RUNYARD_RUN_MACHINE_ARN", arn)
    settings.forget()
    yield request.param
    settings.forget()
    client.delete_state_machine(stateMachineArn=arn)


def test_an_execution_is_stopped_however_often_and_whether_it_has_ended_or_never_was(
    machine: str, emulator: Emulator
) -> None:
    run_id = ids.new()
    step_functions.stop_execution(run_id, cause="never was")
    step_functions.start_execution(org_id=UUID(int=1), run_id=run_id)
    if machine == "short":
        until(lambda: step_functions.is_running(run_id) is False, "its end")
    for _ in range(2):
        step_functions.stop_execution(run_id, cause="cancelled by its owner")
    told = emulator.client("stepfunctions").describe_execution(executionArn=step_functions._execution_arn(run_id))
    assert told["status"] == ("SUCCEEDED" if machine == "short" else "ABORTED")
