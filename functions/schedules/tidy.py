"""Each night: deletes expired letters and sessions, sign-ins that were never finished, and old counts of attempts."""

from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from shared.kernel.telemetry import invoked, logger
from shared.people import service


@invoked
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, int]:
    deleted = service.tidy()
    logger.info("tidied", extra=deleted)
    return deleted
