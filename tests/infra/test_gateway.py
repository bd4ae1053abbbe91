"""The model gateway in AWS: a web server in a function whose answers stream, reached through CloudFront alone."""

import os
import re
import shutil
import subprocess
from dataclasses import replace
from typing import Any

import pytest
from aws_cdk import App, Stack

from infra_cdk.constructs.code import REPOSITORY, RUNTIME
from infra_cdk.constructs.environment import environment_of
from infra_cdk.constructs.platform import Data, Platform, Secrets
from infra_cdk.functions import API, GATEWAY, Function
from infra_cdk.routes import GATEWAY_PATHS, ROUTES
from infra_cdk.stages import DEV, LOCAL, HomeEndpoints, stage_of
from local.front.app import GATEWAY_ROUTES
from tests.infra.conftest import Resource, Templates

_EDGE_SECRET = re.compile(r"\{\{resolve:secretsmanager:runyard/\w+/edge:SecretString:::\}\}")


@pytest.fixture
def function(aws_templates: Templates) -> Resource:
    (found,) = (
        function
        for function in aws_templates.functions()
        if function.properties["FunctionName"] == f"runyard-{aws_templates.stage}-gateway"
    )
    return found


@pytest.fixture
def distribution(aws_templates: Templates) -> dict[str, Any]:
    (found,) = aws_templates.resources("AWS::CloudFront::Distribution")
    config: dict[str, Any] = found.properties["DistributionConfig"]
    return config


def test_the_gateways_server_is_started_by_the_web_adapter_and_streams(
    aws_templates: Templates, function: Resource
) -> None:
    (address,) = aws_templates.resources("AWS::Lambda::Url")
    assert address.properties["TargetFunctionArn"] == {"Fn::GetAtt": [function.logical_id, "Arn"]}
    assert address.properties["InvokeMode"] == "RESPONSE_STREAM"
    variables = function.properties["Environment"]["Variables"]
    assert variables["AWS_LAMBDA_EXEC_WRAPPER"] == "/opt/bootstrap"
    assert variables["AWS_LWA_INVOKE_MODE"] == "response_stream"
    assert function.properties["Layers"][-1] == (
        "arn:aws:lambda:us-east-1:753240598075:layer:LambdaAdapterLayerArm64:28"
    )
    # Lambda takes no more.
    assert len(function.properties["Layers"]) <= 5
    assert function.properties["Timeout"] == 900
    assert "SnapStart" not in function.properties


def test_the_script_that_starts_the_server_can_be_executed_and_starts_our_python(function: Resource) -> None:
    script = REPOSITORY / function.properties["Handler"]
    assert os.access(script, os.X_OK)
    words = script.read_text().split()
    assert RUNTIME.name in words
    assert GATEWAY.handler.rpartition(".")[0] + ":app" in words


def test_the_packed_script_can_still_be_executed(local: Templates) -> None:
    key = local.functions()[0].properties["Code"]["S3Key"].removesuffix(".zip")
    assert os.access(local.output / f"asset.{key}" / GATEWAY.server, os.X_OK)


def test_the_gateway_does_what_its_function_behind_the_api_does_with_the_same_rights() -> None:
    beside = API["inference"]
    assert GATEWAY.module == beside.module
    assert (GATEWAY.needs, GATEWAY.layers) == (beside.needs, beside.layers)


def test_at_home_the_gateway_can_be_given_the_environment_of_its_function_behind_the_api() -> None:
    """It is: the part of that name runs with what the emulator says that function has."""

    def variables(function: Function) -> dict[str, str]:
        stack = Stack(App(), "any")
        secrets = Secrets(
            key_arn="key",
            operator_arn="operator",
            model_provider_arn="model",
            oauth_clients_arn="oauth",
            identity_key_arn="identity",
            edge="edge",
        )
        home = HomeEndpoints()
        return environment_of(function, Platform(stage=LOCAL, secrets=secrets, data=Data.at_home(home)), stack)

    served, beside = variables(GATEWAY), variables(API["inference"])
    assert {name for name in served if served[name] != beside.get(name)} == {
        "POWERTOOLS_SERVICE_NAME",
        *(name for name in served if name.startswith(("AWS_LWA_", "AWS_LAMBDA_"))),
    }
    assert beside.keys() <= served.keys()


def test_what_streams_goes_to_the_gateway_before_anything_else_of_the_api(
    aws_templates: Templates, distribution: dict[str, Any]
) -> None:
    origins = {origin["Id"]: origin for origin in distribution["Origins"]}
    patterns = [(behaviour["PathPattern"], behaviour["TargetOriginId"]) for behaviour in distribution["CacheBehaviors"]]
    to_gateway = [pattern for pattern, origin in patterns if "gateway" in str(origins[origin]["DomainName"])]
    assert tuple(to_gateway) == GATEWAY_PATHS
    assert [pattern for pattern, _ in patterns][: len(to_gateway)] == to_gateway


def test_the_gateway_is_waited_for_and_shown_the_edges_secret(distribution: dict[str, Any]) -> None:
    (origin,) = (origin for origin in distribution["Origins"] if "gateway" in str(origin["DomainName"]))
    assert origin["CustomOriginConfig"]["OriginReadTimeout"] == 60
    (header,) = origin["OriginCustomHeaders"]
    assert header["HeaderName"] == "x-runyard-edge"
    assert _EDGE_SECRET.fullmatch(header["HeaderValue"])


def test_nothing_of_the_gateways_answers_is_cached_or_changed_on_the_way(distribution: dict[str, Any]) -> None:
    api = next(one for one in distribution["CacheBehaviors"] if one["PathPattern"] == "/v1/*")
    for behaviour in distribution["CacheBehaviors"]:
        if behaviour["PathPattern"] in GATEWAY_PATHS:
            assert behaviour["CachePolicyId"] == api["CachePolicyId"]
            assert behaviour["OriginRequestPolicyId"] == api["OriginRequestPolicyId"]
            assert behaviour["ViewerProtocolPolicy"] == "https-only"
            assert not behaviour.get("FunctionAssociations")


def test_the_api_itself_answers_the_same_paths() -> None:
    answered = {route.path.replace("{model_id+}", "*") for route in ROUTES if route.function == "inference"}
    assert answered == set(GATEWAY_PATHS)


def test_both_homes_send_the_same_paths_to_the_gateway() -> None:
    assert tuple(path.replace("{rest:path}", "*") for path in GATEWAY_ROUTES) == GATEWAY_PATHS


@pytest.mark.parametrize("metric", ["Errors", "Url5xxCount"])
def test_a_gateway_that_fails_rings_an_alarm(templates: Templates, metric: str) -> None:
    name = f"runyard-{templates.stage}-gateway"
    watched = [
        alarm.properties
        for alarm in templates.resources("AWS::CloudWatch::Alarm")
        if alarm.properties["Dimensions"] == [{"Name": "FunctionName", "Value": name}]
    ]
    (alarm,) = (alarm for alarm in watched if alarm["MetricName"] == metric)
    assert alarm["AlarmActions"]


def test_another_web_adapter_can_be_given_and_another_region_has_its_own() -> None:
    given = "arn:aws-cn:lambda:cn-north-1:041581134020:layer:LambdaAdapterLayerArm64:28"
    assert stage_of(App(context={"stage": "dev", "web_adapter_layer": given}).node).web_adapter_layer_arn == given
    assert replace(DEV, region="eu-central-1").web_adapter_layer_arn.startswith("arn:aws:lambda:eu-central-1:")


def test_the_script_is_one_that_a_shell_understands() -> None:
    shell = shutil.which("sh")
    assert shell
    assert subprocess.run([shell, "-n", str(REPOSITORY / GATEWAY.server)], check=False).returncode == 0
