"""Queues without a home: real PostgreSQL and the emulator, for measurements of what stands on both."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from shared.kernel import aws, db, settings
from tests.services import Services, running

_VARIABLES = {
    "RUNYARD_PUBLIC_URL": "http://127.0.0.1",
    "RUNYARD_USAGE_QUEUE": "usage",
    "POWERTOOLS_SERVICE_NAME": "bench",
    "POWERTOOLS_METRICS_NAMESPACE": "Runyard",
    "POWERTOOLS_TRACE_DISABLED": "1",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_EC2_METADATA_DISABLED": "true",
}


@dataclass(frozen=True, slots=True)
class Emulated:
    """The servers, which processes started later find by their environment."""

    services: Services

    @property
    def superuser_url(self) -> str:
        return self.services.superuser_url("runyard")

    def processes(self) -> tuple[psutil.Process, psutil.Process]:
        """Return PostgreSQL's and the emulator's first process."""
        return self.services.postgres.process(), self.services.emulator.process()


@contextmanager
def emulated() -> Iterator[Emulated]:
    """Bring the servers up for the block, with an empty, migrated database."""
    with ExitStack() as cleanup:
        folder = Path(cleanup.enter_context(tempfile.TemporaryDirectory(prefix="runyard-bench-")))
        folder.chmod(0o755)  # PostgreSQL runs as a user of its own where root started it
        services = cleanup.enter_context(running(folder / "services", durable=True))
        services.emulator.start()
        before = dict(os.environ)
        os.environ.update(services.environment("runyard") | _VARIABLES)
        os.environ["AWS_ENDPOINT_URL"] = services.home.emulator_url
        settings.forget()
        aws.client.cache_clear()
        try:
            yield Emulated(services)
        finally:
            db.close()
            os.environ.clear()
            os.environ.update(before)
            settings.forget()
            aws.client.cache_clear()
