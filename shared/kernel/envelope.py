"""Errors as they are shown over HTTP: the envelope that Stripe's and OpenAI's clients both read, and the status."""

from collections.abc import Sequence
from hmac import compare_digest
from ipaddress import ip_address
from typing import Any

import psycopg
from psycopg_pool import PoolTimeout
from pydantic import BaseModel, Field

from shared.kernel import settings
from shared.kernel.errors import InternalError, InvalidRequest, Kind, RunyardError, Unavailable
from shared.kernel.telemetry import logger

STATUS_OF_KIND = {
    Kind.INVALID: 400,
    Kind.UNAUTHENTICATED: 401,
    Kind.PAYMENT: 402,
    Kind.FORBIDDEN: 403,
    Kind.NOT_FOUND: 404,
    Kind.CONFLICT: 409,
    Kind.TOO_LARGE: 413,
    Kind.RATE_LIMITED: 429,
    Kind.INTERNAL: 500,
    Kind.PROVIDER: 502,
    Kind.UNAVAILABLE: 503,
}
# What Postgres and its pool raise that isn't our fault and has an answer of its own.
DATABASE_ERRORS = (psycopg.OperationalError, psycopg.DataError, PoolTimeout)


class ErrorBody(BaseModel):
    """What went wrong, in the shape that Stripe's and OpenAI's clients both read."""

    type: str = Field(description="The kind of error.", examples=["invalid_request_error"])
    code: str = Field(description="Stable: programs may rely on it.", examples=["invalid_request"])
    message: str = Field(description="For people: what is wrong and what to do.")
    param: str | None = Field(None, description="The field at fault.", examples=["name"])
    request_id: str
    retryable: bool = Field(description="Whether the very same request may succeed later.")
    doc_url: str
    # What the message says of a limit, for programs; only with errors about limits.
    details: dict[str, Any] | None = Field(None, exclude_if=lambda details: details is None)


class ErrorEnvelope(BaseModel):
    error: ErrorBody


def show(error: RunyardError, *, request_id: str) -> dict[str, Any]:
    """Return the envelope of an error."""
    body = ErrorBody(
        type=error.kind.value,
        code=error.code,
        message=error.message,
        param=error.param,
        request_id=request_id,
        retryable=error.retryable,
        doc_url=f"{settings.public_url()}/errors#{error.code}",
        details=dict(error.details) if error.details else None,
    )
    return {"error": body.model_dump()}


def shown_as(error: Exception, *, request_id: str) -> RunyardError:
    """Return what the caller is told. Unexpected errors are logged whole and shown as nothing but a 500."""
    match error:
        case RunyardError():
            return error
        case psycopg.OperationalError() | PoolTimeout():
            logger.warning("postgres unreachable", extra={"error": type(error).__name__})
            return Unavailable("The database can't be reached; try again shortly.", retry_after_s=1)
        case psycopg.DataError():
            # A NUL in a query, a number beyond what the column holds: right in form, and nothing that can be there.
            logger.warning("value refused by postgres", extra={"error": type(error).__name__})
            return InvalidRequest("A value is out of range or holds a NUL character.")
        case _:
            logger.exception("unexpected error", exc_info=error, extra={"request_id": request_id})
            return InternalError("Something went wrong on our side; it has been recorded.")


def has_edge() -> bool:
    """Return whether an edge stands in front of us that proves itself."""
    return settings.edge_secret() is not None


def from_edge(claimed: str) -> bool:
    """Return whether a request shows the secret of the edge in front of us."""
    secret = settings.edge_secret()
    return secret is not None and compare_digest(secret.encode(), claimed.encode())


def first_address(forwarded: Sequence[str], *, seen: str) -> str:
    """Return the client's address that the edge tells in X-Forwarded-For; `seen` is who connected to us, maybe it."""
    given = [entry.strip() for entry in forwarded]
    addresses = given[:-1] if given[-1] == seen else given
    try:
        return str(ip_address(addresses[-1]))
    except (IndexError, ValueError):
        return seen
