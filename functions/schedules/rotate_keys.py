"""Each day: makes the next key that signs access tokens in time, replaces unusable ones, drops those past their use."""

from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from shared.kernel.telemetry import invoked
from shared.tokens import service


@invoked
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, int]:
    return {"keys": service.rotate()}
