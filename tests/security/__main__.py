"""`make security`: runs the tests of isolation and permissions, and ends with one line of figures."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest


@dataclass
class Tally:
    """A pytest plugin that counts: a check is a test that ran, a leak is one that did not hold."""

    passed: int = 0
    failed: list[str] = field(default_factory=list)
    tables: int = 0

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.failed.append(report.nodeid)
        elif report.when == "call" and report.passed:
            self.passed += 1
        if report.when == "call":
            # How many tables the walk over the catalogue tried a rival on.
            self.tables += sum(int(str(value)) for name, value in report.user_properties if name == "tables")


def main(arguments: Sequence[str]) -> int:
    tally = Tally()
    code = pytest.main([str(Path(__file__).parent), "-q", "-n", "2", "--dist", "load", *arguments], plugins=[tally])
    # Not before pytest has begun: it rewrites the assertions of what is imported after it.
    from tests.security.requests import routes

    checks, leaks = tally.passed + len(tally.failed), len(tally.failed)
    sys.stdout.write(f"security: routes={len(routes())} checks={checks} leaks={leaks} tables={tally.tables}\n")
    return int(code) or (1 if leaks or not tally.tables else 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
