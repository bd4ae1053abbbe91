"""State ConcludeAggregation: says how many tenants were added up, and fails if some could not be."""

from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from shared.kernel.telemetry import invoked, logger, measure
from shared.usage import aggregation
from shared.usage.aggregation import Job


@invoked
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, int]:
    job = Job.read(event)
    measure("OrgsAggregated", job.orgs_done)
    measure("OrgsNotAggregated", job.orgs_failed)
    logger.info("aggregated", extra={"orgs": job.orgs_done, "failed": job.orgs_failed, "first": job.first_failed})
    return aggregation.conclude(job)
