"""API Gateway's authorizer: an API key becomes a Caller, for the HTTP API and for the WebSocket API's $connect."""

from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from shared.identity import service
from shared.kernel.caller import Caller
from shared.kernel.errors import Unauthenticated
from shared.kernel.telemetry import logger


def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Answer in API Gateway's simple format; its cache keeps the answer for five seconds per key."""
    caller = _authenticate(event)
    return {"isAuthorized": caller is not None, "context": caller.to_context() if caller else {}}


def websocket_handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Answer with an IAM policy, the only format that a WebSocket API takes."""
    caller = _authenticate(event)
    statement = {
        "Action": "execute-api:Invoke",
        "Effect": "Allow" if caller else "Deny",
        "Resource": event["methodArn"],
    }
    return {
        "principalId": caller.actor_id if caller else "anonymous",
        "policyDocument": {"Version": "2012-10-17", "Statement": [statement]},
        "context": caller.to_context() if caller else {},
    }


def _authenticate(event: dict[str, Any]) -> Caller | None:
    headers = {name.lower(): value for name, value in (event.get("headers") or {}).items()}
    try:
        caller = service.authenticate(headers.get("authorization"))
    except Unauthenticated as error:
        logger.info("refused", extra={"code": error.code})
        return None
    logger.info("authorized", extra={"actor_id": caller.actor_id})
    return caller
