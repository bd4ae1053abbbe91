"""Jobs that cross tenants: one tenant after the other, none of which can stop the rest."""

from collections.abc import Callable, Mapping
from uuid import UUID

from shared.kernel.telemetry import logger


def sweep(orgs: list[UUID], jobs: Mapping[str, Callable[[UUID], int]]) -> dict[str, int]:
    """Do each job for each tenant and return how much each did; raise at the end if any failed."""
    done = dict.fromkeys(jobs, 0)
    failures: list[Exception] = []
    for org_id in orgs:
        for name, job in jobs.items():
            try:
                done[name] += job(org_id)
            except Exception as error:  # noqa: BLE001 - one tenant must not stop the rest; raised at the end
                logger.exception("sweep failed", extra={"job": name, "org_id": str(org_id)})
                failures.append(error)
    if failures:
        raise ExceptionGroup("some tenants could not be swept", failures)
    return done
