"""The one tree of errors: a stable code and a kind, never a status; the edge maps kinds to statuses."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any


class Kind(StrEnum):
    """What sort of thing went wrong, from the caller's point of view."""

    INVALID = "invalid_request_error"
    UNAUTHENTICATED = "authentication_error"
    PAYMENT = "billing_error"
    FORBIDDEN = "permission_error"
    NOT_FOUND = "not_found_error"
    CONFLICT = "conflict_error"
    TOO_LARGE = "payload_too_large_error"
    RATE_LIMITED = "rate_limit_error"
    PROVIDER = "provider_error"
    UNAVAILABLE = "unavailable_error"
    INTERNAL = "api_error"


class RunyardError(Exception):
    """An error that a caller may see. Subclasses fix `kind` and `code`; the message says what to do.

    `retryable`: the very same request may succeed later without a change.
    """

    kind = Kind.INTERNAL
    code = "internal"
    retryable = False

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        retry_after_s: int | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.retry_after_s = retry_after_s
        # What the message says, for programs: which limit, how much of it is used, how to lift it.
        self.details = details


class InternalError(RunyardError):
    """A fault of ours; it has been recorded under the request's id."""


class ConfigurationError(RunyardError):
    """A function was deployed without something it needs."""

    code = "misconfigured"


class InvalidRequest(RunyardError):
    """The request is malformed; `param` names the field."""

    kind = Kind.INVALID
    code = "invalid_request"


class InvalidTransition(RunyardError):
    """The thing is in a state from which this is impossible."""

    kind = Kind.CONFLICT
    code = "invalid_state"


class Unauthenticated(RunyardError):
    """There is no API key or access token, or it is mistyped or unknown."""

    kind = Kind.UNAUTHENTICATED
    code = "invalid_api_key"


class MalformedAuthorization(Unauthenticated):
    """The Authorization header is not one `Bearer` and one key or token: too long, doubled, or with odd characters."""

    code = "malformed_authorization"


class ApiKeyExpired(Unauthenticated):
    """This API key was good until its `expires_at`, or until the end of its rotation's overlap."""

    code = "api_key_expired"


class ApiKeyRevoked(Unauthenticated):
    """This API key was revoked, or its service account disabled."""

    code = "api_key_revoked"


class InvalidToken(Unauthenticated):
    """This is no access token of ours: malformed, or with a signature that does not fit."""

    code = "invalid_token"


class TokenExpired(InvalidToken):
    """Access tokens are good for 15 minutes: get a new one with the refresh token."""

    code = "token_expired"


class TokenNotYetValid(InvalidToken):
    """The token's `nbf` or `iat` lies in the future."""

    code = "token_not_yet_valid"


class TokenAlgorithmRefused(InvalidToken):
    """Access tokens are signed with ES256 and nothing else."""

    code = "token_algorithm_refused"


class TokenKeyUnknown(InvalidToken):
    """The token's `kid` names no key of ours that is still good."""

    code = "token_key_unknown"


class TokenNotForUs(InvalidToken):
    """The token's issuer, audience or type is not ours."""

    code = "token_not_for_us"


class SessionEnded(Unauthenticated):
    """The session was signed out, revoked or ended by a reused refresh token, or its person left the org."""

    code = "session_ended"


class Forbidden(RunyardError):
    """The key is valid and lacks the scope that the route asks for."""

    kind = Kind.FORBIDDEN
    code = "insufficient_scope"


class NotFound(RunyardError):
    """Not there, or not visible to this tenant: the two are the same answer on purpose."""

    kind = Kind.NOT_FOUND
    code = "not_found"

    @classmethod
    def of(cls, noun: str, shown_id: str) -> "NotFound":
        return cls(f"No {noun} has the id {shown_id}.", param="id")


class RouteNotFound(NotFound):
    """There is nothing at this address; the API is under /v1."""

    code = "route_not_found"


class MethodNotAllowed(InvalidRequest):
    """The address is right and the method is not."""

    code = "method_not_allowed"


class Conflict(RunyardError):
    """In conflict with the present state."""

    kind = Kind.CONFLICT
    code = "conflict"


class IdempotencyConflict(Conflict):
    """The same Idempotency-Key came with another request, or its first request still runs."""

    code = "idempotency_key_reused"


class IdempotencyInFlight(Conflict):
    """The first request with this Idempotency-Key is still being answered; wait a moment."""

    code = "idempotency_in_flight"
    retryable = True


class PayloadTooLarge(RunyardError):
    """The body is larger than the API takes."""

    kind = Kind.TOO_LARGE
    code = "payload_too_large"


class InsufficientCredits(RunyardError):
    """The credits available do not cover what this may cost at most; buy or free some."""

    kind = Kind.PAYMENT
    code = "insufficient_credits"


class ProviderFailed(RunyardError):
    """A party outside answered wrongly or not at all."""

    kind = Kind.PROVIDER
    code = "provider_failed"
    retryable = True


class RateLimited(RunyardError):
    """Too many requests: wait for as many seconds as Retry-After says."""

    kind = Kind.RATE_LIMITED
    code = "rate_limited"
    retryable = True


class QuotaExceeded(RunyardError):
    """The org holds as much of this as its plan allows: free some, or move to a larger plan."""

    kind = Kind.FORBIDDEN
    code = "quota_exceeded"


class PlanLimitReached(RunyardError):
    """What the plan allows each month is used up: wait for the next month (in UTC), or move to a larger plan."""

    kind = Kind.FORBIDDEN
    code = "plan_limit_reached"


class Unavailable(RunyardError):
    """A part of ours can't be reached just now."""

    kind = Kind.UNAVAILABLE
    code = "unavailable"
    retryable = True


class RateLimiterUnavailable(Unavailable):
    """What spends credits waits while requests can't be counted; everything else goes on."""

    code = "rate_limiter_unavailable"


def error_of_code(code: str) -> type[RunyardError] | None:
    """Return the error with this code among those imported so far."""
    pending = [RunyardError]
    while pending:
        error = pending.pop()
        if error.code == code:
            return error
        pending += error.__subclasses__()
    return None
