"""Starts the offline model as its own process on a free port, and gives tests the real openai client."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from openai import OpenAI

REPOSITORY = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="session")
def offline_model_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The server's address, without /v1."""
    log = tmp_path_factory.mktemp("offline-model") / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "local.offline_model"],
            cwd=REPOSITORY,
            env={**os.environ, "RUNYARD_MODEL_PORT": "0"},
            stdout=subprocess.PIPE,
            stderr=output,
            text=True,
        )
    assert process.stdout is not None
    told = process.stdout.readline()
    found = re.search(r"http://127\.0\.0\.1:\d+", told)
    # The access log goes to stdout too: keep reading it, or the server would block on a full pipe.
    with subprocess.Popen(["cat"], stdin=process.stdout, stdout=subprocess.DEVNULL):
        process.stdout.close()
        try:
            assert found is not None, f"the server said {told!r} and {log.read_text()}"
            yield found.group()
        finally:
            process.terminate()
            process.wait(timeout=20)


@pytest.fixture
def client(offline_model_url: str) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{offline_model_url}/v1", api_key="any", max_retries=0, timeout=30) as openai:
        yield openai


@pytest.fixture
def http(offline_model_url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=offline_model_url, timeout=30) as plain:
        yield plain
