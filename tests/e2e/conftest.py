"""One deployed home for all end-to-end tests; they run one after the other, in one process."""

from collections.abc import Iterator

import pytest

from tests.e2e.deployed import Deployed, local_command
from tests.e2e.tenant import Tenant
from tests.integration.local.homes import new_home, stop_everything


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    """The home, made by nothing but `make demo`'s own command."""
    made = new_home(tmp_path_factory.mktemp("e2e") / "home")
    deployed = Deployed(made, first_demo=local_command(made, "demo"))
    yield deployed
    deployed.close()
    stop_everything(made)


@pytest.fixture
def tenant(home: Deployed) -> Tenant:
    """An org of this test's own, with the free plan's credits."""
    return home.tenant()
