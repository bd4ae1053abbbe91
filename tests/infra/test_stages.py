"""Stages: one app for both homes, and clear words when it can't be synthesised."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from aws_cdk import App

from infra_cdk.stages import LOCAL, STAGES, HomeEndpoints, StageError, stage_of
from infra_cdk.synth import nag_errors, synthesize
from tests.infra.conftest import Templates

type TemplatesOf = Callable[[str], Templates]

_AWS_ONLY = {"network", "data", "delivery", "gateway"}
# What a stage in AWS has more than the home in the stacks they share: versions to take snapshots of.
_SNAPSHOTS = {"AWS::Lambda::Version", "AWS::Lambda::Alias"}


def test_the_home_has_every_stack_but_those_that_only_aws_can_have(templates_of: TemplatesOf) -> None:
    def parts(stage: str) -> set[str]:
        return {name.removeprefix(f"runyard-{stage}-") for name in templates_of(stage).by_stack}

    assert parts("prod") - parts("local") == _AWS_ONLY
    assert parts("local") <= parts("prod")
    assert parts("dev") == parts("staging") == parts("prod")


def test_the_stacks_of_both_homes_hold_the_same_resources(templates_of: TemplatesOf) -> None:
    shared = {name.removeprefix("runyard-local-") for name in templates_of("local").by_stack}
    for part in shared:
        at_home, in_aws = (
            Counter(
                resource["Type"]
                for resource in templates_of(stage).by_stack[f"runyard-{stage}-{part}"]["Resources"].values()
                if resource["Type"] not in _SNAPSHOTS
            )
            for stage in ("local", "dev")
        )
        # Pulling the image and reading secrets take rights that nothing at home needs.
        assert in_aws - at_home <= Counter({"AWS::IAM::Policy": 1}), part
        assert at_home - in_aws == Counter(), part


def test_no_stage_leaves_a_finding_of_cdk_nag_without_a_reason(templates: Templates) -> None:
    assert list(nag_errors(templates.app)) == []


def test_cdk_nag_would_find_something(tmp_path: Path) -> None:
    from aws_cdk import Stack
    from aws_cdk.aws_s3 import Bucket

    app = App(outdir=str(tmp_path))
    Bucket(Stack(app, "careless"), "Bucket")
    assert any("AwsSolutions-S1" in error for error in nag_errors(app))


def test_the_home_is_told_where_its_parts_listen(tmp_path: Path) -> None:
    given = {
        "database_url": "postgresql://app@127.0.0.1:1/runyard",
        "migration_database_url": "postgresql://owner@127.0.0.1:1/runyard",
        "redis_url": "redis://127.0.0.1:2/0",
        "public_url": "http://127.0.0.1:3",
        "model_base_url": "http://127.0.0.1:4/v1",
        "model": "some-model",
        "embedding_model": "some-embedding-model",
        "mail_from": "runyard@localhost",
        "edge_secret": "proof",
    }
    endpoints = tmp_path / "endpoints.json"
    endpoints.write_text(json.dumps(given))
    stage = stage_of(App(context={"stage": "local", "endpoints": str(endpoints)}).node)
    assert stage.home == HomeEndpoints(**given)


@pytest.mark.parametrize("content", ["", "[]", '{"database_url": "postgresql://x"}'])
def test_an_unusable_endpoints_file_is_named_with_what_to_do(tmp_path: Path, content: str) -> None:
    endpoints = tmp_path / "endpoints.json"
    endpoints.write_text(content)
    with pytest.raises(StageError, match=r"endpoints\.json.*make up"):
        stage_of(App(context={"stage": "local", "endpoints": str(endpoints)}).node)


def test_an_unknown_stage_is_refused_with_the_names_of_those_there_are() -> None:
    with pytest.raises(StageError, match=r"no stage `production`.*local\|dev\|staging\|prod"):
        stage_of(App(context={"stage": "production"}).node)


def test_without_a_stage_the_home_is_meant() -> None:
    assert stage_of(App().node) == LOCAL


def test_a_layer_that_is_not_built_is_named_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(StageError, match=r"layer `core` is not built for local: run `make layers`"):
        synthesize("local", output=tmp_path / "out", layers=str(tmp_path / "nowhere"))


def test_only_the_home_has_no_account_to_ask_for() -> None:
    assert {name for name, stage in STAGES.items() if stage.account} == {"local"}


def test_apart_from_the_home_all_stages_take_their_public_address_from_the_api(templates_of: TemplatesOf) -> None:
    for function in templates_of("dev").functions():
        variables = function.properties["Environment"]["Variables"]
        if "RUNYARD_PUBLIC_URL" in variables:
            assert "ApiEndpoint" in json.dumps(variables["RUNYARD_PUBLIC_URL"])
