"""`litellm` and `langchain-openai` work against the gateway by its base URL and a key; errors are their own exceptions.

They run in an environment of their own, since they want other versions of `openai`: `clients/ask.py`.
"""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.contract.clients import install
from tests.model_provider import Provider

# The exceptions that each has for a wrong key, an unknown model, a misspelt parameter, 429 and 502.
_RAISED = {
    "litellm": {
        "wrong key": ("AuthenticationError", 401),
        "unknown model": ("NotFoundError", 404),
        "misspelt": ("BadRequestError", 400),
        "rate": ("RateLimitError", 429),
        "failing": ("BadGatewayError", 502),
    },
    "langchain": {
        "wrong key": ("OpenAIAuthenticationError", 401),
        "unknown model": ("OpenAIModelNotFoundError", 404),
        "misspelt": ("OpenAIInvalidRequestError", 400),
        "rate": ("OpenAIRateLimitError", 429),
        "failing": ("OpenAIAPIError", 502),
    },
}


@pytest.fixture(scope="module")
def installed() -> None:
    install.install()


# The environment may have to be made first.
@pytest.mark.timeout(600)
@pytest.mark.parametrize("client", ["litellm", "langchain"])
def test_a_client_needs_no_more_than_the_base_url_and_a_key(
    installed: None, url: str, api_key: str, provider: Provider, tmp_path: Path, client: str
) -> None:
    told = _told_by(client, url, api_key, tmp_path)

    assert told["whole"]
    assert told["tokens"] > 0
    assert told["stream"] == told["async"] == told["response"] == told["whole"]
    assert told["chunks"] > 3
    assert told["call"] == "weather"
    assert "city" in told["arguments"]
    assert "city" in told["schema"]
    assert len(told["vectors"]) == 2
    assert told["vectors"][0] == told["vectors"][1] > 0
    assert told.get("response stream", told["whole"]) == told["whole"]
    raised = {what: (told[what]["raised"], told[what]["status"]) for what in _RAISED[client]}
    assert raised == _RAISED[client]
    assert "temprature" in told["misspelt"]["message"]
    assert "no-such-model" in told["unknown model"]["message"]
    assert {asked.authorization for asked in provider.asked} == {f"Bearer {provider.key}"}


def _told_by(client: str, url: str, key: str, home: Path) -> dict[str, Any]:
    done = subprocess.run(
        [str(install.PYTHON), str(install.FOLDER / "ask.py"), client, url, key],
        # Nothing of the user's: such clients look for keys and proxies everywhere.
        env={"PATH": os.defpath, "HOME": str(home), "LANG": "C.UTF-8"},
        capture_output=True,
        text=True,
        check=False,
        timeout=150,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found
