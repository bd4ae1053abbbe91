"""WebSocket $disconnect: nothing was kept, nothing is to be removed."""

from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from shared.kernel.telemetry import invoked


@invoked
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, int]:
    return {"statusCode": 200}
