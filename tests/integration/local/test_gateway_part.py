"""The part `gateway`: the product's own server, started by its own script, with its function's layers and variables."""

import json
import signal
import sys
from collections.abc import Iterator

import httpx
import psutil
import pytest

from infra_cdk.functions import GATEWAY as ROW
from layers.build import build_all
from layers.catalogue import Platform
from local import cli, processes, supervising
from local.parts import GATEWAY
from local.parts.gateway import write_settings
from local.processes import write_atomically
from local.settings import LOOPBACK, REPOSITORY, Home
from local.supervising import Condition
from tests.integration.local.homes import Screen, new_home, stop_everything

VARIABLES = {
    "RUNYARD_STAGE": "local",
    "RUNYARD_PUBLIC_URL": "http://127.0.0.1:1",
    "RUNYARD_EDGE_SECRET": "proof",
    "POWERTOOLS_SERVICE_NAME": "api-inference",
    "POWERTOOLS_TRACE_DISABLED": "1",
}


def deploy(home: Home, **variables: str) -> None:
    """Leave what a deploy leaves for the gateway."""
    settings = {"layers": list(ROW.layers), "variables": VARIABLES | variables}
    write_atomically(home.gateway_file, json.dumps(settings))


def start_the_gateway(home: Home, screen: Screen) -> list[str]:
    with supervising.locked(home):
        return [part.name for part in supervising.start_missing(home, screen.terminal)]


def process_of(home: Home) -> psutil.Process:
    record = processes.read_record(GATEWAY.record_file(home))
    process = record.process() if record else None
    assert process is not None
    return process


@pytest.fixture(scope="module", autouse=True)
def alone() -> Iterator[None]:
    """Homes of this module have no other part, and built layers."""
    build_all(Platform.LOCAL)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(supervising, "PARTS", (GATEWAY,))
        yield


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    home = new_home(tmp_path_factory.mktemp("gateway") / "home")
    with supervising.locked(home):
        deploy(home)
    start_the_gateway(home, Screen())
    yield home
    stop_everything(home)


def test_it_isnt_missed_before_the_first_deploy(home: Home, screen: Screen) -> None:
    assert start_the_gateway(home, screen) == []
    assert supervising.look_at_all(home) == []


def test_it_answers_with_the_products_own_error_and_through_the_door_only(running: Home) -> None:
    url = f"http://{LOOPBACK}:{running.ports.gateway}/v1/models"
    with httpx.Client(trust_env=False) as client:
        without_proof = client.get(url)
        without_key = client.get(url, headers={"x-runyard-edge": "proof"})
    assert (without_proof.status_code, without_proof.json()["error"]["code"]) == (404, "route_not_found")
    assert (without_key.status_code, without_key.json()["error"]["code"]) == (401, "invalid_api_key")
    assert "server" not in without_key.headers


def test_it_sees_its_layers_and_nothing_of_this_environment(running: Home) -> None:
    process = process_of(running)
    mapped = {entry.path for entry in process.memory_maps()}
    assert any("/gateway-" in path and "uvloop" in path for path in mapped)
    assert not [path for path in mapped if path.startswith(str(REPOSITORY / ".venv")) and "site-packages" in path]
    assert process.environ()["PYTHONPATH"].count("/python:") == len(ROW.layers)
    assert process.environ()["POWERTOOLS_SERVICE_NAME"] == "gateway"
    assert f"python{sys.version_info.major}.{sys.version_info.minor}" in process.exe()


def test_it_reaches_the_emulator_of_its_home_and_no_aws_account(running: Home) -> None:
    assert process_of(running).environ().items() >= running.aws_environment().items()


def test_it_listens_on_loopback_only(running: Home) -> None:
    listening = [one for one in process_of(running).net_connections("inet") if one.status == psutil.CONN_LISTEN]
    assert [tuple(one.laddr) for one in listening] == [(LOOPBACK, running.ports.gateway)]


def test_a_second_up_leaves_it_alone_and_a_deploy_that_changed_its_variables_restarts_it(
    running: Home, screen: Screen
) -> None:
    before = process_of(running)
    assert start_the_gateway(running, screen) == []

    deploy(running, RUNYARD_MODEL="another")
    assert start_the_gateway(running, screen) == ["gateway"]
    assert process_of(running).environ()["RUNYARD_MODEL"] == "another"
    assert not before.is_running()


def test_while_it_is_left_alone_it_isnt_restarted(running: Home, screen: Screen) -> None:
    deploy(running, RUNYARD_MODEL="a third")
    with supervising.locked(running):
        assert supervising.start_missing(running, screen.terminal, leaving=(GATEWAY,)) == []
    assert process_of(running).environ().get("RUNYARD_MODEL") != "a third"


def test_a_change_of_the_product_asks_for_a_restart() -> None:
    assert {REPOSITORY / "functions", REPOSITORY / "shared"} <= set(GATEWAY.sources)


def test_status_shows_it_and_its_log(
    running: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in running.part_environment().items():
        monkeypatch.setenv(name, value)
    cli.main(["status"])
    assert f"gateway   running        {LOOPBACK}:{running.ports.gateway}" in capsys.readouterr().out
    assert cli.main(["logs", "gateway"]) == 0


def test_it_ends_when_asked_to(home: Home, screen: Screen) -> None:
    home.folder.mkdir(parents=True)
    deploy(home)
    assert start_the_gateway(home, screen) == ["gateway"]
    process = process_of(home)
    with supervising.locked(home):
        assert supervising.stop(home, GATEWAY)
    assert not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    assert supervising.look(home, GATEWAY).condition is Condition.STOPPED
    assert GATEWAY.stop_signal is signal.SIGTERM


def test_what_it_runs_with_is_for_its_owner_only(
    home: Home, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    home.folder.mkdir(parents=True)
    monkeypatch.setattr(
        "local.aws.function_settings", lambda _, function: {"layers": ["core"], "variables": {"FUNCTION": function}}
    )
    write_settings(home)
    assert home.gateway_file.stat().st_mode & 0o777 == 0o600
    assert json.loads(home.gateway_file.read_text())["variables"] == {"FUNCTION": "api-inference"}

    supervising.delete_state(home)
    assert not home.gateway_file.exists()
