"""Layers: pinned as tested, complete for every function, nothing twice, small enough, equal when built again."""

import ast
import re
import tomllib
import zipfile
from pathlib import Path

import pytest

from infra_cdk.functions import ALL, Function
from layers.build import build_all, called_aws_services
from layers.catalogue import LAMBDA_UNZIPPED_LIMIT_BYTES, LAYERS, Layer, Platform
from layers.pin import pinned_versions
from tests.infra.call_graph import REPOSITORY, packages_imported_by

# What a function could import and doesn't: the steps ask models without rate limits. At home they would fail at it.
_NEVER_IMPORTED = {"steps-think": frozenset({"throttled"}), "steps-act": frozenset({"throttled"})}


@pytest.fixture(scope="module")
def built() -> dict[str, zipfile.Path]:
    """The layers of this machine, by name."""
    build_all(Platform.LOCAL)
    return {name: zipfile.Path(layer.built_at(Platform.LOCAL), "python/") for name, layer in LAYERS.items()}


def test_every_pin_carries_hashes() -> None:
    for layer in LAYERS.values():
        blocks = re.split(r"\n(?=\S)", layer.pinned.read_text().strip())
        assert blocks
        assert all("--hash=sha256:" in block for block in blocks if "==" in block.splitlines()[0])


def test_layers_hold_the_versions_that_the_tests_run_with() -> None:
    locked = {
        package["name"]: package["version"]
        for package in tomllib.loads((REPOSITORY / "uv.lock").read_text())["package"]
    }
    for layer in LAYERS.values():
        elsewhere = {name for name in pinned_versions(layer) if name not in locked}
        assert elsewhere <= {"httpx2-jsfetch", "tzdata"}, "only what other platforms need may be missing from uv.lock"
        for name, version in pinned_versions(layer).items():
            assert locked.get(name, version) == version, name


def test_what_the_layers_want_is_what_the_project_depends_on() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["dependencies"]
    wanted = {
        line
        for layer in LAYERS.values()
        for line in layer.wanted.read_text().splitlines()
        if line and not line.startswith("#")
    }
    assert wanted == set(project)


def test_no_layer_ships_again_what_the_layer_below_it_holds() -> None:
    for layer in LAYERS.values():
        below = {name for lower in layer.extends for name in pinned_versions(LAYERS[lower])}
        assert pinned_versions(layer).keys() & below == set()


@pytest.mark.parametrize("function", ALL.values(), ids=lambda function: function.name)
def test_whatever_a_function_imports_is_in_its_layers(function: Function, built: dict[str, zipfile.Path]) -> None:
    available = {entry.name.split(".")[0] for layer in function.layers for entry in built[layer].iterdir()}
    assert packages_imported_by(function.module) - _NEVER_IMPORTED.get(function.name, frozenset()) <= available


def test_every_function_has_the_layers_below_its_layers() -> None:
    for function in ALL.values():
        for name in function.layers:
            assert set(LAYERS[name].extends) <= set(function.layers), function.name


@pytest.mark.parametrize("function", ALL.values(), ids=lambda function: function.name)
@pytest.mark.usefixtures("built")
def test_a_functions_layers_take_half_of_what_lambda_has_room_for_at_most(function: Function) -> None:
    sizes = [
        entry.file_size
        for layer in function.layers
        for entry in zipfile.ZipFile(LAYERS[layer].built_at(Platform.LOCAL)).infolist()
    ]
    assert 0 < sum(sizes) < LAMBDA_UNZIPPED_LIMIT_BYTES / 2


def test_a_layer_holds_bytecode_and_descriptions_of_the_services_we_call_only(built: dict[str, zipfile.Path]) -> None:
    names = zipfile.ZipFile(LAYERS["core"].built_at(Platform.LOCAL)).namelist()
    assert [name for name in names if name.endswith(".py") or "/tests/" in name] == []
    described = {match[1] for name in names if (match := re.match(r"python/botocore/data/([^/]+)/", name))}
    assert described == called_aws_services()


def test_the_services_whose_descriptions_are_kept_are_those_the_code_calls() -> None:
    called = {
        argument.value
        for file in (REPOSITORY / "shared").rglob("*.py")
        for call in ast.walk(ast.parse(file.read_text()))
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr == "client"
        for argument in call.args[:1]
        if isinstance(argument, ast.Constant)
    }
    # botocore itself asks for a role's credentials from sts.
    assert called_aws_services() == called | {"sts"}


def test_building_again_makes_the_same_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("layers.build.LAYERS", {"web": LAYERS["web"]})
    first, second = tmp_path / "first", tmp_path / "second"
    for cache_folder in (first, second):
        build_all(Platform.LOCAL, cache=cache_folder)
    one, other = (LAYERS["web"].built_at(Platform.LOCAL, cache=folder) for folder in (first, second))
    assert one.read_bytes() == other.read_bytes()


def test_a_changed_pin_makes_another_layer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("build.py", "web/requirements.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("before")
    monkeypatch.setattr("layers.catalogue.FOLDER", tmp_path)
    before = Layer("web").content_hash(Platform.AWS)
    (tmp_path / "web" / "requirements.txt").write_text("after")
    assert Layer("web").content_hash(Platform.AWS) != before
    assert Layer("web").content_hash(Platform.AWS) != Layer("web").content_hash(Platform.LOCAL)
