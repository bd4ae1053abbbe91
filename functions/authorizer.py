"""API Gateway's authorizer: a key or token becomes a Caller, for the HTTP API and for the WebSocket API's $connect.

On the HTTP API it says who calls rather than who may: API Gateway would answer a refusal with a bare 403 of its own,
while the API's functions, which demand a scope on every route, answer 401 with the stable code that clients rely on.
"""

from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from shared.identity import service
from shared.kernel.caller import Caller
from shared.kernel.errors import Unauthenticated, Unavailable
from shared.kernel.telemetry import logger


def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Answer in API Gateway's simple format; its cache keeps the answer for five seconds per key."""
    try:
        found = _authenticate(event).to_context()
    except (Unauthenticated, Unavailable) as error:
        found = Caller.refused(error)
    return {"isAuthorized": True, "context": found}


def websocket_handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Answer with an IAM policy, the only format that a WebSocket API takes."""
    try:
        caller = _authenticate(event)
    except Unauthenticated:
        return _policy(event, "Deny", principal="anonymous")
    return _policy(event, "Allow", principal=caller.actor_id) | {"context": caller.to_context()}


def _policy(event: dict[str, Any], effect: str, *, principal: str) -> dict[str, Any]:
    statement = {"Action": "execute-api:Invoke", "Effect": effect, "Resource": event["methodArn"]}
    return {"principalId": principal, "policyDocument": {"Version": "2012-10-17", "Statement": [statement]}}


def _authenticate(event: dict[str, Any]) -> Caller:
    try:
        caller = service.authenticate(_authorization(event))
    except Unauthenticated as error:
        logger.info("refused", extra={"code": error.code})
        raise
    logger.info("authorized", extra={"actor_id": caller.actor_id})
    return caller


def _authorization(event: dict[str, Any]) -> str | None:
    """Return the one Authorization header, or all of them joined by commas, as the HTTP API's events have them anyway.

    The WebSocket API's have the last one in `headers` and every one in `multiValueHeaders`.
    """
    each = event.get("multiValueHeaders") or {name: [value] for name, value in (event.get("headers") or {}).items()}
    found = [value for name, values in each.items() if name.lower() == "authorization" for value in values]
    return ",".join(found) if found else None
