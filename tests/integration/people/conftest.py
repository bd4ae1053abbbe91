"""People in tests of people: not registered yet, or signed in."""

from collections.abc import Callable

import pytest

from tests.api_gateway import Answer
from tests.emulator import Emulator
from tests.integration.people.somebody import Somebody


@pytest.fixture
def somebody(call: Callable[..., Answer], emulator: Emulator) -> Somebody:
    """Somebody who has not registered yet."""
    return Somebody(call, emulator, "ada@example.org")


@pytest.fixture
def ada(somebody: Somebody) -> Somebody:
    """Somebody registered, confirmed and signed in."""
    return somebody.registered()
