"""Each day: makes sure that the audit trail and the usage ledger have their months ahead."""

from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from shared.kernel import settings
from shared.kernel.partitioning import make_months
from shared.kernel.telemetry import invoked

MONTHS_AHEAD = 3
TABLES = ("audit_events", "usage_events")


@invoked
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, int]:
    return {table: make_months(settings.schema_owner(), table, ahead=MONTHS_AHEAD) for table in TABLES}
