"""Homes that are stopped when their test ends."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from local import supervising
from local.settings import Home
from tests.integration.local.homes import Screen, new_home, stop_everything


@pytest.fixture
def screen() -> Screen:
    return Screen()


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    """A home that nothing was done with yet."""
    made = new_home(tmp_path / "home")
    yield made
    stop_everything(made)


@pytest.fixture(scope="module")
def running_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """A home with all its parts running and nothing deployed; the tests of a module share it."""
    made = new_home(tmp_path_factory.mktemp("running"))
    with supervising.locked(made):
        supervising.start_missing(made, Screen().terminal)
    yield made
    stop_everything(made)
