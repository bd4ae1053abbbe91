"""What happens on the bus reaches the queue that waits for it, as publisher and reader spell it."""

import json
import re
from fnmatch import fnmatch

from infra_cdk.constructs.code import REPOSITORY
from shared.events.event_bridge import SOURCE
from tests.infra.conftest import Resource, Templates


def test_a_requested_run_reaches_the_queue_that_starts_runs(templates: Templates) -> None:
    rule = _rule(templates, "run-requested")
    assert rule.properties["EventPattern"] == {"source": [SOURCE], "detail-type": ["run.requested"]}
    assert _bus(rule) == "ours"
    assert _queue_name(templates, rule) == f"runyard-{templates.stage}-start-runs"


def test_a_stopped_task_of_our_cluster_reaches_the_queue_of_stopped_sandboxes(templates: Templates) -> None:
    rule = _rule(templates, "sandbox-stopped")
    pattern = rule.properties["EventPattern"]
    assert (pattern["source"], pattern["detail-type"]) == (["aws.ecs"], ["ECS Task State Change"])
    assert pattern["detail"]["lastStatus"] == ["STOPPED"]
    assert f":cluster/runyard-{templates.stage}-sandboxes" in json.dumps(pattern["detail"]["clusterArn"])
    assert _bus(rule) == "default"
    assert _queue_name(templates, rule) == f"runyard-{templates.stage}-sandbox-stopped"


def test_the_product_publishes_the_event_that_the_rule_waits_for() -> None:
    published = [
        file for file in (REPOSITORY / "shared" / "runs").glob("*.py") if '"run.requested"' in file.read_text()
    ]
    assert published


def test_schedules_run_as_often_as_they_have_to(templates: Templates) -> None:
    found = {
        schedule.properties["Name"].removeprefix(f"runyard-{templates.stage}-schedules-"): schedule.properties[
            "ScheduleExpression"
        ]
        for schedule in templates.resources("AWS::Scheduler::Schedule")
    }
    each_minute = {name for name, expression in found.items() if expression == "rate(1 minute)"}
    assert each_minute == {"relay-outbox", "reap"}
    assert found.pop("flush-usage") == "rate(5 minutes)"
    hourly = {name for name, expression in found.items() if re.fullmatch(r"cron\(\d+ \* .*", expression)}
    assert hourly == {"meter-storage", "renew-subscriptions"}
    daily = {name for name, expression in found.items() if expression.startswith(("rate(1 day)", "cron("))} - hourly
    nightly = f"runyard-{templates.stage}-aggregate-usage"  # a state machine of the stack usage
    assert daily == {
        nightly,
        "partition",
        "reconcile-quotas",
        "retain",
        "rotate-keys",
        "tidy",
        "verify-audit",
        "verify-ledger",
    }
    assert found.keys() == each_minute | hourly | daily


def test_letters_are_sent_by_the_reader_of_the_queue_that_functions_are_told(templates: Templates) -> None:
    name = f"runyard-{templates.stage}-send-letters"
    assert name in {queue.properties["QueueName"] for queue in templates.resources("AWS::SQS::Queue")}
    told = {
        function.properties["Environment"]["Variables"].get("RUNYARD_MAIL_QUEUE") for function in templates.functions()
    }
    assert told == {None, name}
    (sender,) = templates.resources("AWS::SES::EmailIdentity")
    assert sender.properties["EmailIdentity"]


def test_usage_is_metered_by_the_reader_of_the_queue_that_functions_are_told(templates: Templates) -> None:
    name = f"runyard-{templates.stage}-record-usage"
    assert name in {queue.properties["QueueName"] for queue in templates.resources("AWS::SQS::Queue")}
    told = {
        function.properties["Environment"]["Variables"].get("RUNYARD_USAGE_QUEUE") for function in templates.functions()
    }
    assert told == {None, name}


def test_the_sandboxs_image_is_built_for_arm_from_the_sandboxs_files_alone(prod: Templates) -> None:
    assets = json.loads((prod.output / "runyard-prod-sandboxes.assets.json").read_text())["dockerImages"].values()
    (source,) = (asset["source"] for asset in assets)
    assert source["platform"] == "linux/arm64"
    context = prod.output / source["directory"]
    files = {str(file.relative_to(context)) for file in context.rglob("*") if file.is_file()}
    assert source["dockerFile"] == "sandbox/Dockerfile"
    assert files >= {"sandbox/Dockerfile", "sandbox/requirements.txt", "sandbox/__main__.py"}
    assert [file for file in files if not fnmatch(file, "sandbox/*")] == []


def _rule(templates: Templates, name: str) -> Resource:
    wanted = f"runyard-{templates.stage}-{name}"
    (rule,) = (rule for rule in templates.resources("AWS::Events::Rule") if rule.properties["Name"] == wanted)
    return rule


def _bus(rule: Resource) -> str:
    return "ours" if rule.properties.get("EventBusName") else "default"


def _queue_name(templates: Templates, rule: Resource) -> str:
    (target,) = rule.properties["Targets"]
    queues = {queue.logical_id: queue for queue in templates.resources("AWS::SQS::Queue")}
    return str(queues[target["Arn"]["Fn::GetAtt"][0]].properties["QueueName"])
