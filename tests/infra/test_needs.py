"""Least privilege, proven from the source: a function is granted what its code can call, all of it and no more."""

import pytest

from infra_cdk.functions import ALL, Function, Need
from tests.infra.call_graph import reachable_from

# The doors of the product to the outside world, and which need each one stands for.
_DOORS = {
    "shared.kernel.settings.database": Need.DATABASE,
    "shared.kernel.settings.database_reader": Need.READ_REPLICA,
    "shared.kernel.settings.redis_url": Need.CACHE,
    "shared.kernel.settings.public_url": Need.PUBLIC_URL,
    "shared.kernel.settings.model": Need.MODEL_PROVIDER,
    "shared.kernel.settings.default_chat_model": Need.DEFAULT_MODELS,
    "shared.kernel.settings.default_embedding_model": Need.DEFAULT_MODELS,
    "shared.inference.providers.keys.read": Need.READ_PROVIDER_KEYS,
    "shared.kernel.settings.provider_secrets": Need.WRITE_PROVIDER_KEYS,
    "shared.kernel.settings.schema_owner": Need.OWN_SCHEMA,
    "shared.kernel.settings.operator_secret_arn": Need.MIGRATE,
    "shared.kernel.settings.identity_key_arn": Need.WRAP_SECRETS,
    "shared.kernel.settings.mail_queue": Need.REQUEST_LETTERS,
    "shared.kernel.settings.mail_from": Need.SEND_MAIL,
    "shared.kernel.settings.usage_queue": Need.RECORD_USAGE,
    "shared.kernel.settings.logins": Need.SIGN_IN_ELSEWHERE,
    "shared.kernel.settings.event_bus": Need.PUBLISH_EVENTS,
    "shared.runs.step_functions.start_execution": Need.START_RUNS,
    "shared.runs.step_functions.is_running": Need.OBSERVE_RUNS,
    "shared.runs.step_functions.stop_execution": Need.STOP_RUNS,
    "shared.sandboxes.step_functions.wake": Need.ANSWER_TASK_TOKENS,
    "shared.sandboxes.step_functions.fail": Need.ANSWER_TASK_TOKENS,
    "shared.sandboxes.fargate.run_task": Need.START_SANDBOXES,
    "shared.sandboxes.fargate.stop_task": Need.STOP_SANDBOXES,
}
# Modules that call AWS or read settings. What they offer has to be among the doors, or tests here would miss it.
_GUARDED = (
    "shared.kernel.settings",
    "shared.runs.step_functions",
    "shared.sandboxes.step_functions",
    "shared.sandboxes.fargate",
)
# Passed through by the doors above, or needing nothing from outside.
_NO_DOORS = {"stage", "forget", "edge_secret", "private_providers", "run_machine_arn", "sandboxes"}


@pytest.mark.parametrize("function", ALL.values(), ids=lambda function: function.name)
def test_a_function_needs_what_its_code_calls_and_no_more(function: Function) -> None:
    reached = reachable_from(function.module)
    called = {need for door, need in _DOORS.items() if door in reached}
    assert {need.name for need in called} == {need.name for need in function.needs}


@pytest.mark.parametrize("module", _GUARDED)
def test_every_public_function_of_an_adapter_is_a_known_door(module: str) -> None:
    offered = {
        name
        for name in (
            qualified.rpartition(".")[2] for qualified in reachable_from(module) if qualified.startswith(module + ".")
        )
        if name[0].islower()
    }
    known = {door.rpartition(".")[2] for door in _DOORS if door.startswith(module + ".")}
    assert offered <= known | _NO_DOORS


def test_the_call_graph_finds_what_is_known_to_be_there() -> None:
    assert "shared.sandboxes.fargate.run_task" in reachable_from("functions.steps.launch_sandbox")
    assert "shared.sandboxes.fargate.run_task" not in reachable_from("functions.api.agents")
