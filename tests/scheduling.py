"""Which tests stay together in one process when pytest-xdist runs several."""

from typing import Any

from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]

# A home, and a synthesised app, for each process would cost more than running side by side gains.
TOGETHER = ("tests/e2e/", "tests/infra/")


class Together(LoadScopeScheduling):  # type: ignore[misc]
    """Like `--dist loadscope`, with whole folders as scopes and every other test by itself.

    Of pytest-xdist's own ways `--dist loadgroup` would do this; with pytest 9.2 its groups are lost, since it writes
    them into a field of the test that pytest no longer reads.
    """

    def _split_scope(self, nodeid: str) -> str:
        return next((folder for folder in TOGETHER if nodeid.startswith(folder)), nodeid)


def scheduler(config: Any, log: Any) -> Together:
    return Together(config, log)
