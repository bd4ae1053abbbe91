"""The state machine AggregateUsage: in step with its functions, stopped by no tenant, started each night."""

import json
from typing import Any

from infra_cdk.functions import AGGREGATION
from infra_cdk.stacks.usage import DEFINITION
from shared.usage.aggregation import MAX_PAGES, PAGE, Job
from tests.infra.call_graph import REPOSITORY
from tests.infra.conftest import Resource, Templates, as_list, statements
from tests.infra.test_state_machine import scopes, transitions

type State = dict[str, Any]

MACHINE: dict[str, Any] = json.loads(DEFINITION.read_text())
STATES: dict[str, State] = {name: state for scope in scopes(MACHINE) for name, state in scope.items()}
TASKS = {name: state for name, state in STATES.items() if state["Type"] == "Task"}
# What an execution's history may hold; what a tenant makes of it, and a retry.
MAX_HISTORY = 25_000
EVENTS_OF_A_TENANT = 9
EVENTS_OF_A_RETRY = 3


def test_every_transition_of_the_aggregation_leads_to_a_state_of_its_scope() -> None:
    for scope in scopes(MACHINE):
        for name, state in scope.items():
            assert set(transitions(state)) <= scope.keys(), name


def test_every_state_of_the_aggregation_can_be_reached() -> None:
    for machine in (MACHINE, MACHINE["States"]["AggregateOrgs"]["ItemProcessor"]):
        reached, waiting = set(), [machine["StartAt"]]
        while waiting:
            name = waiting.pop()
            if name not in reached:
                reached.add(name)
                waiting.extend(transitions(machine["States"][name]))
        assert reached == machine["States"].keys()


def test_each_function_of_the_aggregation_is_named_after_its_state() -> None:
    calling = {name: task for name, task in TASKS.items() if "FunctionName" in task["Parameters"]}
    assert calling.keys() == AGGREGATION.keys()
    for name, task in calling.items():
        assert task["Parameters"]["FunctionName"] == f"${{{name}}}"
        assert (REPOSITORY / AGGREGATION[name].file).is_file()


def test_every_decision_of_the_job_has_a_branch() -> None:
    decided = {choice["StringEquals"] for choice in STATES["WhatNext"]["Choices"]}
    assert decided | {"conclude"} == set(Job.model_fields["next"].annotation.__args__)  # type: ignore[union-attr]
    assert STATES["WhatNext"]["Default"] == "ConcludeAggregation"


def test_what_the_states_read_is_what_the_job_hands_on() -> None:
    fields = Job.model_fields.keys()
    selected = [STATES["AggregateOrgs"]["ItemSelector"], STATES["ContinueElsewhere"]["Parameters"]["Input"]]
    paths = {path for mapping in selected for path in mapping.values() if path.startswith("$.")}
    assert {path.removeprefix("$.") for path in paths} <= fields
    assert STATES["AggregateOrgs"]["ItemsPath"] == "$.orgs"
    assert STATES["AggregateOrgs"]["ResultPath"] == "$.results"
    assert {key.removesuffix(".$") for key in STATES["ContinueElsewhere"]["Parameters"]["Input"]} <= fields


def test_one_tenants_failure_is_caught_within_the_map_and_nowhere_else() -> None:
    [catch] = STATES["AggregateOrg"]["Catch"]
    assert (catch["ErrorEquals"], catch["Next"]) == (["States.ALL"], "OrgFailed")
    assert [name for name, state in STATES.items() if "Catch" in state] == ["AggregateOrg"]
    assert STATES["AggregateOrgs"]["MaxConcurrency"] == 4


def test_every_task_of_the_aggregation_is_patient_but_not_with_what_will_not_change() -> None:
    for name, task in TASKS.items():
        *_, everything = task["Retry"]
        assert everything["ErrorEquals"] == ["States.ALL"], name
        assert everything["JitterStrategy"] == "FULL", name
    final = {
        retrier["ErrorEquals"][0] for task in TASKS.values() for retrier in task["Retry"] if not retrier["MaxAttempts"]
    }
    assert final == {"InvalidRequest", "AggregationIncomplete"}


def test_an_execution_stays_below_what_step_functions_remembers_though_every_tenant_be_retried() -> None:
    retries = sum(
        retrier["MaxAttempts"]
        for retrier in STATES["AggregateOrg"]["Retry"]
        if retrier["ErrorEquals"] != ["DaysLeft"]  # the rare tenant with a long past
    )
    of_a_tenant = EVENTS_OF_A_TENANT + EVENTS_OF_A_RETRY * retries
    assert PAGE * MAX_PAGES * of_a_tenant + 500 < MAX_HISTORY


def test_the_deployed_aggregation_is_this_definition_and_may_start_itself_and_its_functions_only(
    templates: Templates,
) -> None:
    machine = _machine(templates)
    assert machine.properties["DefinitionSubstitutions"].keys() == AGGREGATION.keys()
    assert json.loads(machine.properties["DefinitionString"]) == MACHINE
    assert machine.properties["LoggingConfiguration"]["IncludeExecutionData"] is False
    role = machine.properties["RoleArn"]["Fn::GetAtt"][0]
    granted = {
        action: statement["Resource"]
        for policy in templates.resources("AWS::IAM::Policy")
        if {"Ref": role} in policy.properties["Roles"]
        for statement in statements(policy)
        for action in as_list(statement["Action"])
        if action.startswith(("lambda:", "states:"))
    }
    assert granted.keys() == {"lambda:InvokeFunction", "states:StartExecution"}
    assert len(as_list(granted["lambda:InvokeFunction"])) == len(AGGREGATION)
    assert f":stateMachine:runyard-{templates.stage}-aggregate-usage" in json.dumps(granted["states:StartExecution"])


def test_the_days_are_added_up_each_night_once_the_day_is_over(templates: Templates) -> None:
    machine = _machine(templates)
    (schedule,) = (
        schedule
        for schedule in templates.resources("AWS::Scheduler::Schedule")
        if schedule.properties["Target"]["Arn"] == {"Ref": machine.logical_id}
    )
    assert schedule.properties["ScheduleExpression"] == "cron(5 0 * * ? *)"
    assert schedule.properties["ScheduleExpressionTimezone"] == "Etc/UTC"
    assert schedule.properties["Target"]["Input"] == "{}"
    assert schedule.properties["Target"]["DeadLetterConfig"]["Arn"]
    Job.read(json.loads(schedule.properties["Target"]["Input"]))
    role = schedule.properties["Target"]["RoleArn"]["Fn::GetAtt"][0]
    allowed = {
        action
        for policy in templates.resources("AWS::IAM::Policy")
        if policy.stack == schedule.stack and {"Ref": role} in policy.properties["Roles"]
        for statement in statements(policy)
        for action in as_list(statement["Action"])
    }
    assert allowed == {"states:StartExecution", "sqs:SendMessage"}


def test_an_alarm_watches_the_aggregation(templates: Templates) -> None:
    watched = {
        alarm.properties["MetricName"]
        for alarm in templates.resources("AWS::CloudWatch::Alarm")
        if "aggregate-usage" in json.dumps(alarm.properties["Dimensions"])
        and alarm.properties["Namespace"] == "AWS/States"
    }
    assert watched == {"ExecutionsFailed", "ExecutionsTimedOut"}


def test_long_looks_back_are_read_at_a_replica_where_there_is_one(aws_templates: Templates) -> None:
    endpoints = aws_templates.resources("AWS::RDS::DBProxyEndpoint")
    readers = [
        instance
        for instance in aws_templates.resources("AWS::RDS::DBInstance")
        if "reader" in instance.logical_id.lower()
    ]
    assert len(endpoints) == (1 if readers else 0)
    variables = [function.properties["Environment"]["Variables"] for function in aws_templates.functions()]
    told = [
        json.dumps(each["RUNYARD_DATABASE_READER_URL"]) for each in variables if "RUNYARD_DATABASE_READER_URL" in each
    ]
    assert told
    for url in told:
        assert "runyard_app@" in url
        assert ("Readers" in url) == bool(readers)
    for endpoint in endpoints:
        assert endpoint.properties["TargetRole"] == "READ_ONLY"
        assert len(endpoint.properties["VpcSecurityGroupIds"]) == 1
        assert endpoint.properties["VpcSubnetIds"]


def _machine(templates: Templates) -> Resource:
    name = f"runyard-{templates.stage}-aggregate-usage"
    machines = templates.resources("AWS::StepFunctions::StateMachine")
    (machine,) = (machine for machine in machines if machine.properties["StateMachineName"] == name)
    return machine
