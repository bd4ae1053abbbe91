"""The templates of every stage, synthesised once per session; the tests state rules about what is in them."""

import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

# Which Node versions jsii should not warn about: what a user runs is their business, here it is noise.
os.environ.setdefault("JSII_SILENCE_WARNING_END_OF_LIFE_NODE_VERSION", "18,20")

from aws_cdk import App

from infra_cdk.functions import ALL, Function
from infra_cdk.stages import STAGES
from infra_cdk.synth import synthesize
from layers.build import build_all
from layers.catalogue import Platform

AWS_STAGES = tuple(name for name, stage in STAGES.items() if stage.in_aws)


@dataclass(frozen=True, slots=True)
class Resource:
    """One resource of one template."""

    stage: str
    stack: str
    logical_id: str
    body: dict[str, Any]

    @property
    def type(self) -> str:
        return str(self.body["Type"])

    @property
    def properties(self) -> dict[str, Any]:
        found: dict[str, Any] = self.body.get("Properties", {})
        return found

    @property
    def made_by_us(self) -> bool:
        """False for the functions that CDK itself adds for its custom resources."""
        return not any(part in self.logical_id for part in ("CustomResourceProvider", "CustomCDKBucketDeployment"))

    def __str__(self) -> str:
        return f"{self.stack}/{self.logical_id}"


@dataclass(frozen=True, slots=True)
class Templates:
    """All templates of a stage."""

    stage: str
    app: App
    output: Path
    by_stack: dict[str, dict[str, Any]]

    def resources(self, *types: str) -> list[Resource]:
        """Return the resources of these types (all, when none is given), our own and CDK's."""
        return [
            Resource(self.stage, stack, logical_id, body)
            for stack, template in self.by_stack.items()
            for logical_id, body in template.get("Resources", {}).items()
            if not types or body["Type"] in types
        ]

    def functions(self) -> list[Resource]:
        return [function for function in self.resources("AWS::Lambda::Function") if function.made_by_us]

    @property
    def catalogue(self) -> Mapping[str, Function]:
        """The functions that this stage should have, by name: at home no web server runs as a function."""
        in_aws = STAGES[self.stage].in_aws
        return {name: function for name, function in ALL.items() if in_aws or not function.server}


@pytest.fixture(scope="session")
def templates_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Templates]:
    """Return a function that synthesises a stage on first use."""

    @cache
    def synthesized(stage: str) -> Templates:
        _build_layers(STAGES[stage].layer_platform)
        output = tmp_path_factory.mktemp(f"cdk-{stage}")
        return Templates(stage, synthesize(stage, output=output), output, dict(_read(output)))

    return synthesized


@pytest.fixture(params=list(STAGES))
def templates(request: pytest.FixtureRequest, templates_of: Callable[[str], Templates]) -> Templates:
    """Each stage in turn."""
    return templates_of(request.param)


@pytest.fixture(params=AWS_STAGES)
def aws_templates(request: pytest.FixtureRequest, templates_of: Callable[[str], Templates]) -> Templates:
    """Each stage in AWS in turn."""
    return templates_of(request.param)


@pytest.fixture
def prod(templates_of: Callable[[str], Templates]) -> Templates:
    return templates_of("prod")


@pytest.fixture
def local(templates_of: Callable[[str], Templates]) -> Templates:
    return templates_of("local")


@cache
def _build_layers(platform: Platform) -> None:
    build_all(platform)


def _read(output: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for file in sorted(output.glob("*.template.json")):
        yield file.name.removesuffix(".template.json"), json.loads(file.read_text())


def as_list(value: Any) -> list[Any]:
    """Return IAM's `"x"` or `["x"]` as a list."""
    return value if isinstance(value, list) else [value]


def statements(resource: Resource) -> list[dict[str, Any]]:
    """Return the statements of all policies a resource carries: inline ones, managed by us, or resource policies."""
    properties = resource.properties
    documents = [policy["PolicyDocument"] for policy in properties.get("Policies", [])]
    documents += [properties[key] for key in ("PolicyDocument", "KeyPolicy") if key in properties]
    return [statement for document in documents for statement in as_list(document["Statement"])]
