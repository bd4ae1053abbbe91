"""Cold start is guarded by names: what a handler imports before its first event."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FUNCTIONS = sorted(
    path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".")
    for path in (ROOT / "functions").rglob("*.py")
    if path.name != "__init__.py"
)
# Heavy packages, by what each costs to import (milliseconds above an empty Python are in docs/development.md).
HEAVY = {"boto3", "openai", "fastapi", "alembic", "sqlalchemy", "aws_xray_sdk", "numpy", "httpx"}
ALLOWED = {
    "functions.api": {"fastapi"},
    "functions.deploy": {"alembic", "sqlalchemy"},
}
PROBE = "import importlib, sys; importlib.import_module(sys.argv[1]); print(*(m for m in sys.modules if '.' not in m))"


def _imported_by(module: str) -> set[str]:
    """Return the top-level packages that a fresh interpreter has after importing a handler, without environment."""
    done = subprocess.run(
        [sys.executable, "-c", PROBE, module],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "POWERTOOLS_TRACE_DISABLED": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_every_function_is_looked_at() -> None:
    assert len(FUNCTIONS) > 20


@pytest.mark.parametrize("module", FUNCTIONS)
def test_a_handler_imports_no_heavy_package_that_it_has_no_leave_for(module: str) -> None:
    allowed = next((names for prefix, names in ALLOWED.items() if module.startswith(prefix)), set())
    assert _imported_by(module) & HEAVY <= allowed


def test_the_authorizer_starts_without_what_only_the_edge_or_a_token_needs() -> None:
    heavy = {"fastapi", "boto3", "pydantic", "joserfc", "cryptography", "redis", "throttled"}
    assert _imported_by("functions.authorizer") & heavy == set()


@pytest.mark.parametrize("module", FUNCTIONS)
def test_a_function_is_of_one_page_and_states_its_job(module: str) -> None:
    source = (ROOT / (module.replace(".", "/") + ".py")).read_text()
    assert len(source.splitlines()) <= 130
    assert ast.get_docstring(ast.parse(source))


@pytest.mark.parametrize(
    "path",
    [
        path
        for folder in ("shared", "functions", "infra_cdk", "local", "sandbox")
        for path in (ROOT / folder).rglob("*.py")
    ],
    ids=lambda path: path.relative_to(ROOT).as_posix(),
)
def test_a_module_fits_a_sitting_and_reads_no_environment_of_its_own(path: Path) -> None:
    source = path.read_text()
    assert len(source.splitlines()) <= 300
    product = path.is_relative_to(ROOT / "shared") or path.is_relative_to(ROOT / "functions")
    if product and path.name != "settings.py":
        assert "os.environ" not in source
        assert "getenv" not in source
