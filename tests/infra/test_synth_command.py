"""`make synth`: works without an account, ends with one line, fails aloud."""

import os
import subprocess
import sys
from pathlib import Path

from tests.infra.call_graph import REPOSITORY


def test_production_is_synthesised_without_credentials_and_without_errors(tmp_path: Path) -> None:
    finished = _synth("--stage", "prod", "--output", str(tmp_path))
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.splitlines()[-1] == "synth: 12 stacks, 0 errors"
    assert len(list(tmp_path.glob("runyard-prod-*.template.json"))) == 12


def test_an_unknown_stage_fails_and_names_the_known_ones() -> None:
    finished = _synth("--stage", "production")
    assert finished.returncode != 0
    assert all(stage in finished.stderr for stage in ("local", "dev", "staging", "prod"))


def _synth(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "CDK_"))}
    nowhere = {
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "1",
    }
    return subprocess.run(
        [sys.executable, "-m", "infra_cdk.synth", *arguments],
        cwd=REPOSITORY,
        env=environment | nowhere,
        capture_output=True,
        text=True,
        check=False,
    )
