"""Rules that every Lambda function of every stage obeys."""

import ast
from collections.abc import Callable
from pathlib import Path

from infra_cdk.functions import ALL, MIGRATE, SCHEDULES
from infra_cdk.stages import STAGES
from shared.kernel.settings import VARIABLES
from tests.infra.call_graph import REPOSITORY
from tests.infra.conftest import AWS_STAGES, Resource, Templates

type TemplatesOf = Callable[[str], Templates]


def test_every_function_of_the_catalogue_is_deployed_and_no_other(templates: Templates) -> None:
    deployed = {function.properties["FunctionName"] for function in templates.functions()}
    assert deployed == {f"runyard-{templates.stage}-{name}" for name in templates.catalogue}


def test_every_function_of_an_aws_stage_runs_on_arm64(aws_templates: Templates) -> None:
    assert _those_without(aws_templates, lambda function: function.properties["Architectures"] == ["arm64"]) == []


def test_every_function_logs_json_into_a_log_group_of_its_own_that_forgets(templates: Templates) -> None:
    groups = {group.logical_id: group for group in templates.resources("AWS::Logs::LogGroup")}
    used = []
    for function in templates.functions():
        logging = function.properties["LoggingConfig"]
        assert logging["LogFormat"] == "JSON", function
        group = groups[logging["LogGroup"]["Ref"]]
        assert group.properties["LogGroupName"] == f"/aws/lambda/{function.properties['FunctionName']}"
        used.append(group.logical_id)
    assert len(set(used)) == len(templates.catalogue)


def test_every_log_group_says_how_long_it_keeps_what_it_is_told(templates: Templates) -> None:
    assert [
        str(group) for group in templates.resources("AWS::Logs::LogGroup") if "RetentionInDays" not in group.properties
    ] == []


def test_every_function_has_an_explicit_timeout_tracing_and_the_python_it_is_tested_with(templates: Templates) -> None:
    for function in templates.functions():
        assert function.properties["Timeout"] > 0, function
        assert function.properties["TracingConfig"] == {"Mode": "Active"}, function
        assert function.properties["Runtime"] == "python3.13", function


def test_no_two_functions_share_a_role(templates: Templates) -> None:
    roles = [function.properties["Role"]["Fn::GetAtt"][0] for function in templates.functions()]
    assert len(set(roles)) == len(roles)


def test_all_functions_share_one_code_asset_so_that_a_change_is_one_upload(templates: Templates) -> None:
    assert len({function.properties["Code"]["S3Key"] for function in templates.functions()}) == 1


def test_the_code_asset_holds_our_sources_and_nothing_else(local: Templates) -> None:
    key = local.functions()[0].properties["Code"]["S3Key"].removesuffix(".zip")
    asset = local.output / f"asset.{key}"
    files = [file.relative_to(asset) for file in asset.rglob("*") if file.is_file()]
    assert {file.parts[0] for file in files} == {"functions", "migrations", "shared"}
    assert [file for file in files if file.suffix == ".pyc"] == []
    assert {str(file) for file in files} >= {
        file for function in ALL.values() for file in (function.file, function.server) if file
    }


def test_every_function_invoked_asynchronously_hands_its_failures_to_a_queue(templates: Templates) -> None:
    scheduled = {
        schedule.properties["Target"]["Arn"]["Fn::GetAtt"][0]
        for schedule in templates.resources("AWS::Scheduler::Schedule")
        if "Fn::GetAtt" in schedule.properties["Target"]["Arn"]  # the other starts a state machine, which waits for it
    }
    handed_over = {
        config.properties["FunctionName"]["Ref"]
        for config in templates.resources("AWS::Lambda::EventInvokeConfig")
        if config.properties["DestinationConfig"]["OnFailure"]["Destination"]
    }
    assert len(scheduled) == len(SCHEDULES)
    assert scheduled <= handed_over


def test_every_schedule_and_rule_keeps_what_it_could_not_deliver(templates: Templates) -> None:
    for schedule in templates.resources("AWS::Scheduler::Schedule"):
        assert schedule.properties["Target"]["DeadLetterConfig"]["Arn"], schedule
    for rule in templates.resources("AWS::Events::Rule"):
        assert all(target["DeadLetterConfig"]["Arn"] for target in rule.properties["Targets"]), rule


def test_queue_consumers_report_each_failed_message_and_outlive_none(templates: Templates) -> None:
    queues = {queue.logical_id: queue for queue in templates.resources("AWS::SQS::Queue")}
    functions = {function.logical_id: function for function in templates.functions()}
    mappings = templates.resources("AWS::Lambda::EventSourceMapping")
    assert mappings
    for mapping in mappings:
        assert mapping.properties["FunctionResponseTypes"] == ["ReportBatchItemFailures"], mapping
        queue = queues[mapping.properties["EventSourceArn"]["Fn::GetAtt"][0]]
        timeout_s = functions[mapping.properties["FunctionName"]["Ref"]].properties["Timeout"]
        assert queue.properties["VisibilityTimeout"] >= 6 * timeout_s, queue


def test_every_handler_names_a_function_that_exists() -> None:
    for function in ALL.values():
        assert function.handler.rpartition(".")[2] in _defined(Path(function.file)), function.handler


def test_every_lambda_file_is_in_the_catalogue() -> None:
    files = {
        str(file.relative_to(REPOSITORY))
        for file in (REPOSITORY / "functions").rglob("*.py")
        if "handler" in _defined(file.relative_to(REPOSITORY))
    }
    assert files == {function.file for function in ALL.values()}


def test_functions_are_given_the_variables_that_settings_reads_and_no_others(templates_of: TemplatesOf) -> None:
    given = {
        name
        for stage in STAGES
        for function in templates_of(stage).functions()
        for name in function.properties["Environment"]["Variables"]
        if name.startswith("RUNYARD_")
    }
    assert given == VARIABLES


def test_only_who_changes_the_schema_is_told_how_its_owner_signs_in(templates: Templates) -> None:
    def told(word: str) -> set[str]:
        return {
            function.properties["FunctionName"].removeprefix(f"runyard-{templates.stage}-")
            for function in templates.functions()
            if any(word in name for name in function.properties["Environment"]["Variables"])
        }

    assert told("OPERATOR") == {MIGRATE.name}
    assert told("MIGRATION") == {MIGRATE.name, SCHEDULES["partition"].name}


def test_no_function_is_told_a_password_or_key_in_aws(templates_of: TemplatesOf) -> None:
    for stage in AWS_STAGES:
        for function in templates_of(stage).functions():
            for name, value in function.properties["Environment"]["Variables"].items():
                assert "PASSWORD" not in name, function
                assert not (name.endswith("_URL") and "://" in str(value) and ":" in _user_part(str(value))), function


def test_functions_that_callers_wait_for_start_from_a_snapshot_in_aws_and_only_there(templates_of: TemplatesOf) -> None:
    for stage in STAGES:
        waited_for = {
            function.properties["FunctionName"].removeprefix(f"runyard-{stage}-")
            for function in templates_of(stage).functions()
            if "SnapStart" in function.properties
        }
        expected = {name for name in ALL if name.startswith("api-") or name == "authorizer"}
        assert waited_for == (expected if stage in AWS_STAGES else set())


def test_what_may_run_only_once_at_a_time_has_its_concurrency_reserved(prod: Templates) -> None:
    alone = {name for name, function in ALL.items() if function.at_most_one}
    reserved = {
        function.properties["FunctionName"].removeprefix("runyard-prod-")
        for function in prod.functions()
        if function.properties.get("ReservedConcurrentExecutions") == 1
    }
    assert reserved == alone


def _those_without(templates: Templates, rule: Callable[[Resource], bool]) -> list[str]:
    return [str(function) for function in templates.functions() if not rule(function)]


def _defined(file: Path) -> set[str]:
    """Return the names that a module gives to functions and values."""
    body = ast.parse((REPOSITORY / file).read_text()).body
    names = {node.name for node in body if isinstance(node, ast.FunctionDef)}
    targets = [target for node in body if isinstance(node, ast.Assign) for target in node.targets]
    targets += [node.target for node in body if isinstance(node, ast.AnnAssign)]
    return names | {target.id for target in targets if isinstance(target, ast.Name)}


def _user_part(url: str) -> str:
    return url.split("://", 1)[1].split("@", 1)[0] if "@" in url else ""
