"""The door's own errors, in the envelope that every error of the API has."""

from uuid import uuid4

from starlette.responses import JSONResponse

ERRORS = {
    "payload_too_large": (413, "payload_too_large_error", "The request's body is larger than 10 MB.", False),
    "malformed_authorization": (
        401, "authentication_error", "The Authorization header is larger than any key or token.", False,
    ),
    "not_deployed": (503, "unavailable_error", "The API isn't deployed yet. Run `make up` and try again.", True),
    "emulator_unreachable": (
        502, "unavailable_error", "The emulator behind the API doesn't answer. `make status` tells more.", True,
    ),
    "gateway_unreachable": (
        502, "unavailable_error", "The model gateway doesn't answer. `make status` tells more.", True,
    ),
    "route_not_found": (404, "not_found_error", "There is nothing at this address. The API is under /v1.", False),
}  # fmt: skip

CODES = frozenset(ERRORS)


def envelope(code: str, *, public_url: str, request_id: str | None) -> JSONResponse:
    """Return the answer for one of the door's error codes."""
    status, kind, message, retryable = ERRORS[code]
    shown_id = request_id or f"front-{uuid4()}"
    body = {
        "type": kind,
        "code": code,
        "message": message,
        "param": None,
        "request_id": shown_id,
        "retryable": retryable,
        "doc_url": f"{public_url}/errors#{code}",
    }
    headers = {"X-Request-Id": shown_id} | ({"Retry-After": "1"} if retryable else {})
    return JSONResponse({"error": body}, status, headers)
