"""What a provider's status and words mean to us. Nothing of them is passed on but what is about the request.

The errors that come out of here hold neither a request nor a key, and no other error that does.
"""

import email.utils
import math
import re
import time
from collections.abc import Mapping
from typing import Any, Final

from shared.inference.errors import (
    ContextTooLong,
    ModelNotFound,
    ProviderAnsweredWrongly,
    ProviderMisconfigured,
    ProviderRateLimited,
    ProviderRefused,
    ProviderTimedOut,
    StreamBroken,
)
from shared.kernel.errors import ProviderFailed, RunyardError
from shared.kernel.text import storable

# Statuses by which a provider finds fault with the request itself, not with itself or with our account.
_REQUEST_AT_FAULT: Final = frozenset({400, 413, 422})
_ACCOUNT_AT_FAULT: Final = frozenset({401, 402, 403})
_NO_CREDIT: Final = frozenset({"insufficient_quota", "billing_hard_limit_reached", "credit_balance_too_low"})
_LONGEST_RETRY_AFTER_S: Final = 3_600
_CODE: Final = re.compile(r"[a-z]{1,40}(_[a-z]{1,40}){1,8}")
# How OpenAI, vLLM, Ollama and others; Anthropic; and Bedrock's models say that a prompt doesn't fit.
_TOO_LONG: Final = re.compile(
    r"context[ _]length|context[ _]window|maximum context|context limit|exceeds? the (available )?context"
    r"|(prompt|input) is too long|too many (input )?tokens|input length and `?max_tokens`? exceed",
    re.IGNORECASE,
)


def of_status(
    status: int, body: object, headers: Mapping[str, str], *, key: str = "", code: str | None = None
) -> RunyardError:
    """Return the error of an answer with this status; `body` is its JSON, `code` what isn't told there."""
    said = _said(body)
    code = code or _text(said, "code") or _text(said, "type")
    message = _text(said, "message")
    if status == 429 and code not in _NO_CREDIT:
        return rate_limited(headers)
    if status in _ACCOUNT_AT_FAULT or 300 <= status < 400 or code in _NO_CREDIT:
        return ProviderMisconfigured(
            f"The model provider refuses the account that it is asked with (status {status}); whoever keeps its API "
            "key must check the key, its rights and its balance."
        )
    if status in _REQUEST_AT_FAULT:
        return refused(message, key=key, code=code, param=_text(said, "param"))
    if status == 408:
        return timed_out()
    if status == 404:
        return ModelNotFound("The model provider doesn't serve this model.", param="model")
    return ProviderFailed(
        f"The model provider failed with status {status}; try again shortly.", retry_after_s=retry_after_s(headers)
    )


def of_stream(body: object, *, key: str = "") -> RunyardError:
    """Return the error that a provider reports in a stream, before anything else came."""
    said = _said(body)
    code = _text(said, "code") or _text(said, "type") or ""
    message = _text(said, "message")
    if code.startswith("rate_limit"):
        return rate_limited({})
    if code.startswith("invalid_request") or is_too_long(code, message):
        return refused(message, key=key, code=code, param=_text(said, "param"))
    return ProviderFailed("The model provider failed before it answered; try again shortly.")


def rate_limited(headers: Mapping[str, str]) -> ProviderRateLimited:
    return ProviderRateLimited(
        "The model provider limits its rate just now; try again later.", retry_after_s=retry_after_s(headers)
    )


def refused(message: str | None, *, key: str, code: str | None, param: str | None = None) -> ProviderRefused:
    """Return the provider's word on the request, by which its sender can mend it."""
    kind = ContextTooLong if is_too_long(code, message) else ProviderRefused
    reason = f"The model provider refuses the request: {message or 'it gave no reason'}"
    found = kind(without(reason, key)[:1_000], param=param if param and without(param, key) == param else None)
    # Well-known codes are what programs look for. No key looks like one.
    if kind is ProviderRefused and code is not None and _CODE.fullmatch(code) and code != "invalid_request_error":
        found.code = code[:64]
    return found


def is_too_long(code: str | None, message: str | None) -> bool:
    return code == ContextTooLong.code or (message is not None and _TOO_LONG.search(message) is not None)


def timed_out() -> ProviderTimedOut:
    return ProviderTimedOut("The model provider didn't answer in time; try again.")


def broken() -> StreamBroken:
    return StreamBroken("The model provider's stream ended in the middle of the answer; ask again for a whole one.")


def malformed(why: str = "it is malformed") -> ProviderAnsweredWrongly:
    return ProviderAnsweredWrongly(f"The model provider's answer can't be used: {why}. Try again, or another model.")


def unusable(name: str) -> ProviderFailed:
    """Return the error for what a provider's client library found fault with, told by its name alone."""
    return ProviderFailed(f"The model provider can't be asked: {name}. Try again, or another model.")


def without(text: str, key: str) -> str:
    """Return the text, the key struck out of it."""
    clean = str(storable(text))
    return clean.replace(key, "[redacted]") if key else clean


def bare[E: BaseException](error: E) -> E:
    """Return the error without what it was raised from, whose frames and causes know the request and the key."""
    error.__cause__ = error.__context__ = None
    return error.with_traceback(None)


def retry_after_s(headers: Mapping[str, str]) -> int | None:
    """Return what `Retry-After` says, in seconds from 1 to 3,600, or None: a number or a date (RFC 9110, 10.2.3)."""
    given = headers.get("retry-after", "")
    try:
        seconds = float(given)
    except ValueError:
        parsed = email.utils.parsedate_tz(given)
        if parsed is None:
            return None
        try:
            seconds = email.utils.mktime_tz(parsed) - time.time()
        except (ValueError, OverflowError):
            return None
    return min(max(1, math.ceil(seconds)), _LONGEST_RETRY_AFTER_S) if math.isfinite(seconds) else None


def _said(body: Any) -> Mapping[str, Any]:
    """Return what tells of the error: OpenAI and Anthropic put it under `error`, some servers at the top."""
    found = body.get("error", body) if isinstance(body, dict) else None
    if isinstance(found, str):
        return {"message": found}
    return found if isinstance(found, dict) else {}


def _text(found: Mapping[str, Any], name: str) -> str | None:
    value = found.get(name)
    return value if isinstance(value, str) and value else None
