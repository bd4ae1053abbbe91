"""WebSocket messages: `{"action": "ping"}` is answered with who is connected; anything else with a clear error."""

import json
from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from shared.kernel import ids
from shared.kernel.caller import Caller
from shared.kernel.telemetry import invoked


@invoked
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    caller = Caller.from_context(event["requestContext"].get("authorizer") or {})
    if _action(event.get("body")) == "ping":
        return _answer({"type": "pong", "org_id": ids.show("org", caller.org_id)})
    return _answer({"type": "error", "code": "unknown_action", "message": 'Known actions: {"action": "ping"}.'})


def _action(body: str | None) -> object:
    try:
        message = json.loads(body or "")
    except ValueError:
        return None
    return message.get("action") if isinstance(message, dict) else None


def _answer(message: dict[str, str]) -> dict[str, Any]:
    return {"statusCode": 200, "body": json.dumps(message)}
