"""Each day: makes sure that the audit trail has its months ahead."""

from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from shared.kernel import settings
from shared.kernel.partitioning import make_months
from shared.kernel.telemetry import invoked

MONTHS_AHEAD = 3


@invoked
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, int]:
    return {"made": make_months(settings.schema_owner(), "audit_events", ahead=MONTHS_AHEAD)}
