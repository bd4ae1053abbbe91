"""One machine for all tests of the program; a sandbox shared by those that leave no trace, or one's own."""

from collections.abc import Iterator

import pytest

from tests.integration.sandbox.machine import Machine, RunningSandbox


@pytest.fixture(scope="session")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    machine = Machine(tmp_path_factory.mktemp("home"))
    yield machine
    machine.close()


@pytest.fixture(scope="module")
def sandbox(machine: Machine) -> Iterator[RunningSandbox]:
    """A sandbox that the tests of one file share."""
    with machine.sandbox() as sandbox:
        yield sandbox


@pytest.fixture
def own_sandbox(machine: Machine) -> Iterator[RunningSandbox]:
    """A sandbox for a test that breaks it."""
    with machine.sandbox() as sandbox:
        yield sandbox
