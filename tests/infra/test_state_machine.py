"""The state machine AgentRun: complete, patient, and in step with the functions it names."""

import json
from collections.abc import Iterator
from typing import Any

from infra_cdk.functions import STEPS
from infra_cdk.stacks.runs import DEFINITION
from tests.infra.call_graph import REPOSITORY
from tests.infra.conftest import Resource, Templates

type State = dict[str, Any]

MACHINE: dict[str, Any] = json.loads(DEFINITION.read_text())
# What Step Functions takes.
MAX_DEFINITION_BYTES = 1024 * 1024


def scopes(machine: dict[str, Any] = MACHINE) -> Iterator[dict[str, State]]:
    """Yield the states of the machine and of each Map in it: a transition never leaves its scope."""
    yield machine["States"]
    for state in machine["States"].values():
        if "ItemProcessor" in state:
            yield from scopes(state["ItemProcessor"])


def states() -> dict[str, State]:
    return {name: state for scope in scopes() for name, state in scope.items()}


def tasks() -> dict[str, State]:
    return {name: state for name, state in states().items() if state["Type"] == "Task"}


def transitions(state: State) -> Iterator[str]:
    for holder in (state, *state.get("Catch", []), *state.get("Choices", [])):
        if "Next" in holder:
            yield holder["Next"]
    if "Default" in state:
        yield state["Default"]


def test_every_transition_leads_to_a_state_of_its_scope() -> None:
    for scope in scopes():
        for name, state in scope.items():
            assert set(transitions(state)) <= scope.keys(), name


def test_every_state_can_be_reached() -> None:
    for machine in (MACHINE, *(state["ItemProcessor"] for state in states().values() if "ItemProcessor" in state)):
        reached, waiting = set(), [machine["StartAt"]]
        while waiting:
            name = waiting.pop()
            if name not in reached:
                reached.add(name)
                waiting.extend(transitions(machine["States"][name]))
        assert reached == machine["States"].keys()


def test_every_state_goes_on_or_ends() -> None:
    for name, state in states().items():
        ends = state["Type"] in {"Succeed", "Fail"} or state.get("End") is True
        goes_on = "Next" in state or (state["Type"] == "Choice" and "Default" in state)
        assert ends != goes_on, name


def test_state_names_are_unique_in_the_whole_machine() -> None:
    assert sum(len(scope) for scope in scopes()) == len(states())


def test_each_task_runs_the_function_named_after_it() -> None:
    assert tasks().keys() == STEPS.keys()
    for name, task in tasks().items():
        assert task["Parameters"]["FunctionName"] == f"${{{name}}}"
        assert STEPS[name].handler == f"functions.steps.{_snake_case(name)}.handler"
        assert (REPOSITORY / STEPS[name].file).is_file()


def test_every_task_waits_out_a_busy_step_and_does_not_repeat_what_has_ended() -> None:
    for name, task in tasks().items():
        busy, ended, *_, everything = task["Retry"]
        assert busy["ErrorEquals"] == ["StepBusy"], name
        assert busy["IntervalSeconds"] * busy["MaxAttempts"] >= 30, name
        assert "RunEnded" in ended["ErrorEquals"], name
        assert ended["MaxAttempts"] == 0, name
        assert everything["ErrorEquals"] == ["States.ALL"], name
        assert everything["JitterStrategy"] == "FULL", name


def test_a_limit_reached_or_a_sandbox_lost_is_told_without_minutes_of_trying_again() -> None:
    think, act = tasks()["Think"]["Retry"], tasks()["Act"]["Retry"]
    limits = {"StepLimitReached", "TimeLimitReached", "BudgetExceeded", "InsufficientCredits", "ModelNotFound"}
    assert [retrier["MaxAttempts"] for retrier in think if limits <= set(retrier["ErrorEquals"])] == [0]
    # Once more, should only the connection have been cut: the command is joined then.
    assert [retrier["MaxAttempts"] for retrier in act if retrier["ErrorEquals"] == ["SandboxLost"]] == [1]


def test_every_error_is_caught_and_leads_to_settlement() -> None:
    # Errors inside a Map are the Map's.
    working = {name: state for name, state in MACHINE["States"].items() if state["Type"] in {"Task", "Map"}}
    for name, state in working.items():
        ended, everything = state["Catch"]
        assert (ended["ErrorEquals"], ended["Next"]) == (["RunEnded"], "Ended"), name
        assert everything["ErrorEquals"] == ["States.ALL"], name
        assert everything["Next"] == {"Recover": "Fail", "Fail": "RunFailed"}.get(name, "Recover"), name


def test_whatever_fails_passes_through_fail_before_the_machine_ends_in_failure() -> None:
    top = MACHINE["States"]
    before = {name for name, state in top.items() if "RunFailed" in transitions(state)}
    assert before == {"Fail"}
    assert top["RunFailed"]["Type"] == "Fail"


def test_the_machine_passes_ids_and_small_decisions_only() -> None:
    allowed = {"org_id", "run_id", "step_no", "call_no", "task_token", "error"}
    for name, task in tasks().items():
        assert {key.removesuffix(".$") for key in task["Parameters"]["Payload"]} <= allowed, name
        kept = {key.removesuffix(".$") for key in task.get("ResultSelector", {})}
        assert kept <= {"needs_sandbox", "step_no", "next", "next_step_no", "calls"}, name
        assert "ResultSelector" in task or task["ResultPath"] is None, name


def test_waiting_for_a_sandbox_has_an_end() -> None:
    waiting = {name: task for name, task in tasks().items() if task["Resource"].endswith(".waitForTaskToken")}
    assert waiting.keys() == {"LaunchSandbox"}
    assert all(0 < task["TimeoutSeconds"] <= 120 for task in waiting.values())
    assert MACHINE["TimeoutSeconds"] == 7200


def deployed(templates: Templates) -> Resource:
    name = f"runyard-{templates.stage}-agent-run"
    machines = templates.resources("AWS::StepFunctions::StateMachine")
    (machine,) = (machine for machine in machines if machine.properties["StateMachineName"] == name)
    return machine


def test_the_deployed_machine_is_this_definition_with_every_name_filled_in(templates: Templates) -> None:
    machine = deployed(templates)
    assert machine.properties["DefinitionSubstitutions"].keys() == STEPS.keys()
    definition = machine.properties["DefinitionString"]
    assert json.loads(definition) == MACHINE
    assert len(definition) < MAX_DEFINITION_BYTES


def test_the_machine_logs_what_happens_but_not_what_is_said(templates: Templates) -> None:
    machine = deployed(templates)
    logging = machine.properties["LoggingConfiguration"]
    assert (logging["Level"], logging["IncludeExecutionData"]) == ("ALL", False)
    assert machine.properties["TracingConfiguration"] == {"Enabled": True}


def test_whoever_starts_runs_knows_the_machine_by_its_deployed_name(templates: Templates) -> None:
    variable = "RUNYARD_RUN_MACHINE_ARN"
    machine = deployed(templates)
    told = [
        json.dumps(function.properties["Environment"]["Variables"][variable])
        for function in templates.functions()
        if variable in function.properties["Environment"]["Variables"]
    ]
    assert told
    assert all(f":stateMachine:{machine.properties['StateMachineName']}" in arn for arn in told)


def _snake_case(name: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name).lstrip("_")
