"""Rules about who may do what: IAM statements of all stacks of all stages."""

import json
from collections.abc import Iterator
from typing import Any

from infra_cdk.functions import ALL, Need
from tests.infra.conftest import Resource, Templates, as_list, statements

# Actions for which AWS knows no narrower resource, with the reason in one place.
_WITHOUT_RESOURCES = {
    "xray:PutTraceSegments": "traces belong to the account",
    "xray:PutTelemetryRecords": "traces belong to the account",
    "xray:GetSamplingRules": "traces belong to the account",
    "xray:GetSamplingTargets": "traces belong to the account",
    "ec2:AssignPrivateIpAddresses": "Lambda makes the interfaces of a function in a VPC",
    "ec2:CreateNetworkInterface": "Lambda makes the interfaces of a function in a VPC",
    "ec2:DeleteNetworkInterface": "Lambda makes the interfaces of a function in a VPC",
    "ec2:DescribeNetworkInterfaces": "Lambda makes the interfaces of a function in a VPC",
    "ec2:DescribeSubnets": "Lambda makes the interfaces of a function in a VPC",
    "ec2:UnassignPrivateIpAddresses": "Lambda makes the interfaces of a function in a VPC",
    "ecr:GetAuthorizationToken": "a login to the image registry is for the whole registry",
    "logs:CreateLogDelivery": "deliveries of Step Functions' logs belong to the account",
    "logs:GetLogDelivery": "deliveries of Step Functions' logs belong to the account",
    "logs:UpdateLogDelivery": "deliveries of Step Functions' logs belong to the account",
    "logs:DeleteLogDelivery": "deliveries of Step Functions' logs belong to the account",
    "logs:ListLogDeliveries": "deliveries of Step Functions' logs belong to the account",
    "logs:PutResourcePolicy": "deliveries of Step Functions' logs belong to the account",
    "logs:DescribeResourcePolicies": "deliveries of Step Functions' logs belong to the account",
    "logs:DescribeLogGroups": "deliveries of Step Functions' logs, and WebSocket APIs' access logs",
    "logs:CreateLogGroup": "access logs of the account's WebSocket APIs",
    "logs:CreateLogStream": "access logs of the account's WebSocket APIs",
    "logs:DescribeLogStreams": "access logs of the account's WebSocket APIs",
    "logs:FilterLogEvents": "access logs of the account's WebSocket APIs",
    "logs:GetLogEvents": "access logs of the account's WebSocket APIs",
    "logs:PutLogEvents": "access logs of the account's WebSocket APIs",
    "cloudfront:GetInvalidation": "CDK's uploader of the console",
    "cloudfront:CreateInvalidation": "CDK's uploader of the console",
}


def test_no_role_may_do_everything_of_a_service(templates: Templates) -> None:
    granted = {
        (str(policy), action) for policy, statement in _grants(templates) for action in as_list(statement["Action"])
    }
    assert {(policy, action) for policy, action in granted if "*" in action and not _is_cdk_uploader(policy)} == set()


def test_only_what_knows_no_resources_is_granted_on_all_of_them(templates: Templates) -> None:
    unexplained = {
        (str(policy), action)
        for policy, statement in _grants(templates)
        if "*" in as_list(statement["Resource"])
        for action in as_list(statement["Action"])
        if action not in _WITHOUT_RESOURCES
    }
    assert unexplained == set()


def test_functions_carry_no_managed_policies(templates: Templates) -> None:
    ours = [role for role in templates.resources("AWS::IAM::Role") if role.made_by_us]
    assert [str(role) for role in ours if role.properties.get("ManagedPolicyArns")] == []


def test_code_in_a_sandbox_has_no_rights_at_all(templates: Templates) -> None:
    (task,) = templates.resources("AWS::ECS::TaskDefinition")
    role_id = task.properties["TaskRoleArn"]["Fn::GetAtt"][0]
    (role,) = (role for role in templates.resources("AWS::IAM::Role") if role.logical_id == role_id)
    assert "Policies" not in role.properties
    assert "ManagedPolicyArns" not in role.properties
    assert [str(policy) for policy in templates.resources("AWS::IAM::Policy") if _belongs_to(policy, role_id)] == []


def test_a_role_is_passed_to_fargate_only_and_only_by_who_starts_sandboxes(templates: Templates) -> None:
    starters = {name for name, function in templates.catalogue.items() if Need.START_SANDBOXES in function.needs}
    passing = [(policy, grant) for policy, grant in _grants(templates) if "iam:PassRole" in as_list(grant["Action"])]
    assert len(passing) == len(starters)
    for policy, grant in passing:
        assert grant["Condition"] == {"StringEquals": {"iam:PassedToService": "ecs-tasks.amazonaws.com"}}, policy
        assert len(as_list(grant["Resource"])) == 2, policy


def test_only_the_functions_that_use_the_models_key_may_read_it(templates: Templates) -> None:
    readers = {
        name.replace("-", "") for name, function in templates.catalogue.items() if Need.MODEL_PROVIDER in function.needs
    }
    allowed = {
        policy.logical_id.split("RoleDefaultPolicy")[0]
        for policy, grant in _grants(templates)
        if "secretsmanager:GetSecretValue" in as_list(grant["Action"]) and "modelprovider" in json.dumps(grant)
    }
    assert allowed == readers


_CHANGE = {"secretsmanager:CreateSecret", "secretsmanager:DeleteSecret", "secretsmanager:PutSecretValue"}


def test_only_the_migration_and_the_set_up_of_providers_may_change_a_secret(templates: Templates) -> None:
    changing = {
        (policy.logical_id.split("RoleDefaultPolicy")[0], action): json.dumps(grant["Resource"])
        for policy, grant in _grants(templates)
        for action in _CHANGE.intersection(as_list(grant["Action"]))
    }
    assert {who for who, _ in changing} == {"deploymigrate", "apiproviders"}
    assert {action for who, action in changing if who == "deploymigrate"} == {"secretsmanager:PutSecretValue"}
    for action in _CHANGE:
        resource = changing["apiproviders", action]
        assert ":secret:runyard/" in resource
        assert "/inference-providers/*" in resource, "the keys that orgs gave, and no secret of the platform's own"


def test_only_who_asks_models_may_read_the_keys_of_orgs(templates: Templates) -> None:
    readers = {
        name.replace("-", "")
        for name, function in templates.catalogue.items()
        if Need.READ_PROVIDER_KEYS in function.needs
    }
    allowed = {
        policy.logical_id.split("RoleDefaultPolicy")[0]
        for policy, grant in _grants(templates)
        if "secretsmanager:GetSecretValue" in as_list(grant["Action"]) and "/inference-providers/*" in json.dumps(grant)
    }
    assert allowed == readers


def test_the_code_of_a_function_in_a_vpc_may_not_touch_network_interfaces(aws_templates: Templates) -> None:
    denied = [
        statement
        for policy in aws_templates.resources("AWS::IAM::Policy")
        for statement in statements(policy)
        if statement["Effect"] == "Deny" and "ec2:CreateNetworkInterface" in as_list(statement["Action"])
    ]
    assert len(denied) == len(ALL)


def _grants(templates: Templates) -> Iterator[tuple[Resource, dict[str, Any]]]:
    """Yield what is allowed to whom; the resource policies of keys, queues and topics say it about themselves."""
    for policy in templates.resources("AWS::IAM::Policy", "AWS::IAM::Role"):
        for statement in statements(policy):
            if statement["Effect"] == "Allow":
                yield policy, statement


def _belongs_to(policy: Resource, role_id: str) -> bool:
    return {"Ref": role_id} in policy.properties["Roles"]


def _is_cdk_uploader(policy: str) -> bool:
    return "CustomCDKBucketDeployment" in policy
