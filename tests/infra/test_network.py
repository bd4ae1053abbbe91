"""Who may talk to whom in the VPC: above all, what a sandbox can reach and who can reach it."""

from dataclasses import dataclass
from typing import Any

import pytest

from infra_cdk.stages import SANDBOX_PORT
from tests.infra.conftest import Templates

ANYWHERE = "0.0.0.0/0"


@dataclass(frozen=True, slots=True)
class Rule:
    """One allowed direction: `group` is where the rule stands, `peer` an address range or another group's name."""

    direction: str
    group: str
    peer: str
    port: int


@pytest.fixture
def rules(aws_templates: Templates) -> set[Rule]:
    """All rules of all security groups, inline or standing alone. Names are logical ids without CDK's hash."""
    found = set()
    for group in aws_templates.resources("AWS::EC2::SecurityGroup"):
        for direction in ("Ingress", "Egress"):
            for rule in group.properties.get(f"SecurityGroup{direction}", []):
                found.add(_rule(direction, group.logical_id, rule))
    for direction in ("Ingress", "Egress"):
        for standing in aws_templates.resources(f"AWS::EC2::SecurityGroup{direction}"):
            found.add(_rule(direction, standing.properties["GroupId"]["Fn::GetAtt"][0], standing.properties))
    return found - {_NOTHING}


# What CDK writes into a group without egress, since an empty list would mean everything.
_NOTHING_ADDRESS = "255.255.255.255/32"
_NOTHING = Rule("Egress", "", _NOTHING_ADDRESS, 0)


def test_nothing_accepts_connections_from_the_internet(rules: set[Rule]) -> None:
    assert [rule for rule in rules if rule.direction == "Ingress" and "/" in rule.peer] == []


def test_a_sandbox_is_reached_by_functions_on_its_port_and_by_nobody_else(rules: set[Rule]) -> None:
    assert {rule for rule in rules if rule.group == "SandboxesGroup" and rule.direction == "Ingress"} == {
        Rule("Ingress", "SandboxesGroup", "FunctionsGroup", SANDBOX_PORT)
    }


def test_a_sandbox_reaches_public_https_and_nothing_inside(rules: set[Rule]) -> None:
    assert {rule for rule in rules if rule.group == "SandboxesGroup" and rule.direction == "Egress"} == {
        Rule("Egress", "SandboxesGroup", ANYWHERE, 443)
    }
    assert [rule for rule in rules if rule.peer == "SandboxesGroup" and rule.direction == "Ingress"] == []


def test_the_database_is_reached_through_the_proxy_and_by_functions_for_migrations(rules: set[Rule]) -> None:
    peers = {rule.peer for rule in rules if rule.group == "DatabaseGroup" and rule.direction == "Ingress"}
    assert peers == {"DatabaseProxyGroup", "FunctionsGroup"}


def test_the_cache_is_reached_by_functions_only(rules: set[Rule]) -> None:
    assert {rule.peer for rule in rules if rule.group == "CacheGroup" and rule.direction == "Ingress"} == {
        "FunctionsGroup"
    }


def test_functions_reach_public_https_the_data_and_sandboxes(rules: set[Rule]) -> None:
    outward = {
        (rule.peer, rule.port) for rule in rules if rule.group == "FunctionsGroup" and rule.direction == "Egress"
    }
    assert outward == {
        (ANYWHERE, 443),
        ("SandboxesGroup", SANDBOX_PORT),
        ("DatabaseProxyGroup", 5432),
        ("DatabaseGroup", 5432),
        ("CacheGroup", 6379),
        ("CacheGroup", 6380),
    }


def test_data_has_no_way_to_the_internet(aws_templates: Templates) -> None:
    data_subnets = {
        subnet.logical_id for subnet in aws_templates.resources("AWS::EC2::Subnet") if "data" in subnet.logical_id
    }
    tables = {
        association.properties["RouteTableId"]["Ref"]
        for association in aws_templates.resources("AWS::EC2::SubnetRouteTableAssociation")
        if association.properties["SubnetId"]["Ref"] in data_subnets
    }
    assert data_subnets
    assert [
        str(route)
        for route in aws_templates.resources("AWS::EC2::Route")
        if route.properties["RouteTableId"]["Ref"] in tables
    ] == []


def test_a_sandbox_shares_no_subnet_with_functions_or_data(aws_templates: Templates) -> None:
    assert _subnets_of(aws_templates, "sandboxes").isdisjoint(_subnets_of(aws_templates, "functions"))
    assert _subnets_of(aws_templates, "sandboxes").isdisjoint(_subnets_of(aws_templates, "data"))


def test_a_sandbox_runs_without_root_or_capabilities(templates: Templates) -> None:
    (task,) = templates.resources("AWS::ECS::TaskDefinition")
    (container,) = task.properties["ContainerDefinitions"]
    assert container["User"] == "1000"
    assert container["Privileged"] is False
    assert container["LinuxParameters"]["Capabilities"] == {"Drop": ["ALL"]}
    assert "Environment" not in container
    assert "Secrets" not in container
    assert container["LogConfiguration"]


def test_production_survives_the_loss_of_a_zone(prod: Templates) -> None:
    assert len(prod.resources("AWS::EC2::NatGateway")) == len(_subnets_of(prod, "functions")) == 3
    assert len(prod.resources("AWS::RDS::DBInstance")) == 2


def _subnets_of(templates: Templates, name: str) -> set[str]:
    return {
        subnet.logical_id for subnet in templates.resources("AWS::EC2::Subnet") if f"Vpc{name}" in subnet.logical_id
    }


def _rule(direction: str, logical_id: str, properties: dict[str, Any]) -> Rule:
    peer = properties.get("CidrIp")
    if peer == _NOTHING_ADDRESS:
        return _NOTHING
    if peer is None:
        key = "SourceSecurityGroupId" if direction == "Ingress" else "DestinationSecurityGroupId"
        peer = _name(properties[key]["Fn::GetAtt"][0])
    assert properties["FromPort"] == properties["ToPort"], properties
    return Rule(direction, _name(logical_id), peer, properties["FromPort"])


def _name(logical_id: str) -> str:
    return logical_id[:-8]
