"""The provider: any endpoint that speaks OpenAI's protocol, reached with the `openai` client. Its only importer.

The client is imported by the first call, so that a function that ends up asking no model never pays for it. Of a
provider's error only what is about the request is passed on: the rest may name the platform's account.
"""

import math
import re
import time
from collections.abc import Mapping, Sequence
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from shared.inference import provider_answers
from shared.inference.model import (
    ModelNotFound,
    ProviderAnsweredWrongly,
    ProviderMisconfigured,
    ProviderRateLimited,
    ProviderRefused,
    ProviderSuspended,
    ProviderTimedOut,
    Tokens,
)
from shared.kernel import secrets, settings
from shared.kernel.errors import ProviderFailed, RunyardError
from shared.kernel.resilience import Breaker, retry
from shared.kernel.telemetry import logger

if TYPE_CHECKING:
    from openai import APIStatusError, OpenAI

_CONNECT_TIMEOUT_S: Final = 3.0
_LEAST_TIMEOUT_S: Final = 0.1
_SUSPENDED_S: Final = 10
# Statuses by which a provider finds fault with the request itself, not with itself or with our account.
_REQUEST_AT_FAULT: Final = frozenset({400, 413, 422})
_ACCOUNT_AT_FAULT: Final = frozenset({401, 402, 403})
_LONGEST_RETRY_AFTER_S: Final = 3_600


class _Unconnected(ProviderFailed):
    """No answer came: the connection couldn't be made, or broke. The one failure that is tried again at once."""


def name() -> str:
    """Return the provider's host, for the answer's `x-runyard-provider`."""
    return urlsplit(settings.model().base_url).hostname or "unknown"


def chat(body: Mapping[str, Any], *, timeout_s: float) -> tuple[dict[str, Any], Tokens]:
    """Ask for one completion; `body` is OpenAI's request. Returns the answer and its tokens."""
    answer = _ask(body["model"], "/chat/completions", body, timeout_s)
    return provider_answers.read_chat(answer)


def embed(
    texts: Sequence[str], *, model: str, dimensions: int | None, timeout_s: float
) -> tuple[tuple[tuple[float, ...], ...], Tokens]:
    """Ask for one vector of `dimensions` (None: the model's own number) for each text."""
    body: dict[str, Any] = {"model": model, "input": list(texts), "encoding_format": "base64"}
    if dimensions is not None:
        body["dimensions"] = dimensions
    answer = _ask(model, "/embeddings", body, timeout_s)
    return provider_answers.read_embeddings(answer, count=len(texts))


def models(*, timeout_s: float) -> list[dict[str, Any]]:
    """Return the models that the provider serves, each in OpenAI's format."""
    answer = _ask("any", "/models", None, timeout_s)
    match answer:
        case {"data": [*data]} if all(isinstance(one, dict) and isinstance(one.get("id"), str) for one in data):
            return data
        case _:
            raise ProviderAnsweredWrongly("The model provider's list of models is malformed; try again later.")


@cache
def _breaker(model: str) -> Breaker:
    return Breaker(name=f"model {model}", failures=5, reset_s=_SUSPENDED_S)


def _ask(model: str, path: str, body: Mapping[str, Any] | None, timeout_s: float) -> object:
    # Both attempts share the time there is.
    until = time.monotonic() + timeout_s
    breaker = _breaker(model)
    if not breaker.allows():
        raise ProviderSuspended(
            "The model provider has just failed several times in a row; try again shortly.",
            retry_after_s=_SUSPENDED_S,
        )
    try:
        answer = retry(lambda: _send(path, body, until), on=(_Unconnected,), attempts=2)
    except RunyardError as error:
        # A provider that finds fault with the request, or limits its rate, is in good health.
        if isinstance(error, ProviderFailed) and not isinstance(error, ProviderRateLimited):
            breaker.failed()
        else:
            breaker.succeeded()
        logger.warning("provider failed", extra={"model": model, "code": error.code})
        raise
    breaker.succeeded()
    return answer


@lru_cache(maxsize=1)
def _client(base_url: str, api_key: str) -> "OpenAI":
    # One client for all calls, so that connections are kept; a rotated key brings a new one.
    from openai import OpenAI

    return OpenAI(base_url=base_url, api_key=api_key, max_retries=0)


def _send(path: str, body: Mapping[str, Any] | None, until: float) -> object:
    import httpx2
    from openai import APIConnectionError, APIStatusError, APITimeoutError

    model = settings.model()
    key = secrets.read(model.api_key_secret_arn)
    client = _client(model.base_url, key)
    left_s = max(_LEAST_TIMEOUT_S, until - time.monotonic())
    timeout = httpx2.Timeout(left_s, connect=min(left_s, _CONNECT_TIMEOUT_S))
    # Errors are raised from None: theirs hold the request, and with it the key.
    try:
        if body is None:
            response = client.get(path, cast_to=httpx2.Response, options={"timeout": timeout})
        else:
            response = client.post(path, cast_to=httpx2.Response, body=body, options={"timeout": timeout})
        answer: object = response.json()
    except APITimeoutError:
        raise ProviderTimedOut("The model provider didn't answer in time; try again.") from None
    except APIConnectionError:
        raise _Unconnected("The model provider can't be reached; try again shortly.", retry_after_s=1) from None
    except APIStatusError as error:
        raise _translated(error, key) from None
    except ValueError:
        raise ProviderAnsweredWrongly("The model provider's answer isn't JSON; try again.") from None
    return answer


def _translated(error: "APIStatusError", key: str) -> RunyardError:
    status = error.status_code
    if status == 429:
        return ProviderRateLimited(
            "The model provider limits its rate just now; try again later.", retry_after_s=_retry_after_s(error)
        )
    if status in _ACCOUNT_AT_FAULT:
        return ProviderMisconfigured(
            f"The model provider refuses the platform's own account (status {status}); "
            "the operator must check the provider's API key and its balance."
        )
    if status == 404:
        return ModelNotFound("The model provider doesn't serve this model.", param="model")
    if status in _REQUEST_AT_FAULT:
        return _refused(error, key)
    return ProviderFailed(
        f"The model provider failed with status {status}; try again shortly.", retry_after_s=_retry_after_s(error)
    )


def _refused(error: "APIStatusError", key: str) -> ProviderRefused:
    given = error.body.get("message") if isinstance(error.body, dict) else None
    reason = given if isinstance(given, str) and given else "it gave no reason"
    refused = ProviderRefused(
        f"The model provider refuses the request: {reason}".replace(key, "[redacted]")[:1_000],
        param=error.param if isinstance(error.param, str) and key not in error.param else None,
    )
    # Well-known codes such as context_length_exceeded are what programs look for. No key looks like one.
    if error.code is not None and re.fullmatch(r"[a-z]+(_[a-z]+)+", error.code):
        refused.code = error.code[:64]
    return refused


def _retry_after_s(error: "APIStatusError") -> int | None:
    try:
        seconds = float(error.response.headers.get("retry-after", ""))
    except ValueError:
        return None
    return min(max(1, math.ceil(seconds)), _LONGEST_RETRY_AFTER_S) if math.isfinite(seconds) else None
