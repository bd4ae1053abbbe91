"""Deploying with the real CDK CLI to the real emulator: a small app, once, again, after a change, after a hard kill."""

import json
from pathlib import Path

import psutil
import pytest
from botocore.exceptions import EndpointConnectionError

from local import aws, deploying, processes
from local.bringing_up import bring_up
from local.deploying import Deployment
from local.errors import HomeError
from local.parts import EMULATOR
from local.settings import Home
from tests.integration.local.homes import Screen

APP = """
import json
from pathlib import Path
from aws_cdk import App, CfnOutput, Stack, aws_ssm

app = App()
endpoints = json.loads(Path(app.node.get_context("endpoints")).read_text())
stack = Stack(app, f"runyard-{app.node.get_context('stage')}-small")
value = Path("value.txt").read_text()
aws_ssm.StringParameter(stack, "Value", parameter_name="/small/value", string_value=value)
CfnOutput(stack, "HttpApiId", value=value)
CfnOutput(stack, "PublicUrl", value=endpoints["public_url"])
app.synth()
"""


@pytest.fixture
def small_app(tmp_path: Path) -> Deployment:
    folder = tmp_path / "app"
    folder.mkdir()
    (folder / "cdk.json").write_text("{}")
    (folder / "app.py").write_text(APP)
    (folder / "value.txt").write_text("first")
    return Deployment(folder, (folder / "app.py", folder / "value.txt"), has_layers=False)


def deployed_value(home: Home) -> str:
    outputs = json.loads(home.outputs_file.read_text())
    return str(outputs["runyard-local-small"]["HttpApiId"])


def kill_emulator(home: Home) -> None:
    record = processes.read_record(EMULATOR.record_file(home))
    assert record is not None
    process = psutil.Process(record.pid)
    process.kill()
    process.wait(10)


def test_only_what_changed_is_deployed_and_what_was_lost_is_deployed_again(home: Home, small_app: Deployment) -> None:
    first, second, third, fourth = Screen(), Screen(), Screen(), Screen()

    bring_up(home, first.terminal, deployment=small_app)
    assert "deploying the stacks" in first.text
    assert deployed_value(home) == "first"
    assert aws.stack_outputs(home)["runyard-local-small"]["PublicUrl"] == home.public_url

    bring_up(home, second.terminal, deployment=small_app)
    assert "deploying the stacks" not in second.text

    (small_app.app_folder / "value.txt").write_text("second")
    bring_up(home, third.terminal, deployment=small_app)
    assert deployed_value(home) == "second"

    # Killed without a chance to write its state down, the emulator knows no more than after the first deploy.
    kill_emulator(home)
    bring_up(home, fourth.terminal, deployment=small_app)
    assert "emulator had crashed" in fourth.text
    assert "deploying the stacks" in fourth.text
    assert aws.stack_outputs(home)["runyard-local-small"]["HttpApiId"] == "second"


def test_an_emulator_killed_during_its_first_deploy_is_deployed_to_from_scratch(
    home: Home, small_app: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(deploying, "write_outputs", kill_emulator)
        with pytest.raises(EndpointConnectionError):
            bring_up(home, Screen().terminal, deployment=small_app)

    bring_up(home, Screen().terminal, deployment=small_app)

    assert deployed_value(home) == "first"


def test_a_deploy_that_fails_says_why_and_is_tried_again(home: Home, small_app: Deployment) -> None:
    (small_app.app_folder / "app.py").write_text("raise SystemExit('the app has a fault')")
    for _ in range(2):
        with pytest.raises(HomeError, match="the app has a fault"):
            bring_up(home, Screen().terminal, deployment=small_app)
