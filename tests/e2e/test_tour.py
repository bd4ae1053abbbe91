"""The tours in docs/, run as a reader would paste them, block after block in one shell."""

import os
import re
import subprocess
import sys
from pathlib import Path

from local.settings import REPOSITORY
from tests.e2e.deployed import Deployed

BLOCK = re.compile(r"^```bash\n(.*?)^```", re.MULTILINE | re.DOTALL)


def test_every_block_of_the_tour_of_the_api_runs_as_pasted(home: Deployed) -> None:
    assert "run.succeeded" in _pasted(home, "api.md")


def test_every_block_of_the_tour_of_people_and_keys_runs_as_pasted(home: Deployed) -> None:
    told = _pasted(home, "identity.md")
    assert '"role":"owner"' in told.replace(" ", "")
    assert "audit: orgs=" in told


def test_every_block_of_the_tour_of_usage_and_credits_runs_as_pasted(home: Deployed) -> None:
    told = _pasted(home, "billing.md").replace(" ", "")
    assert '"would_start":true' in told
    assert '"plan":"pro"' in told
    assert "ledger:orgs=" in told


def test_every_block_of_the_tour_of_the_model_gateway_runs_as_pasted(home: Deployed) -> None:
    told = _pasted(home, "gateway.md")
    assert "scripted offline model" in told
    assert [line.split()[1] for line in told.splitlines() if line.startswith("x-runyard-cache:")][-3:] == [
        "miss",
        "hit",
        "off",
    ]
    assert '"object":"budget"' in told.replace(" ", "")


def _pasted(home: Deployed, page: str) -> str:
    """Return what the blocks of a page print; none may fail or be answered with an error."""
    tour = (REPOSITORY / "docs" / page).read_text()
    blocks = BLOCK.findall(tour.replace("http://127.0.0.1:7070", home.home.public_url))
    assert len(blocks) > 6
    # The repository's environment, wherever the tests run from.
    script = "\n".join(["set -eu", *blocks]).replace(".venv/bin/python", sys.executable)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("RUNYARD_", "OPENAI_"))}
    done = subprocess.run(
        ["bash"],
        input=script,
        cwd=REPOSITORY,
        env=kept
        | {"RUNYARD_HOME": str(home.home.folder), "PATH": f"{Path(sys.executable).parent}:{kept['PATH']}"}
        | home.home.part_environment(),
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert '"error":{' not in done.stdout.replace(" ", ""), done.stdout[-3000:]
    return done.stdout
