"""Sends a request with a provider's client library and returns the raw answer, or an error of ours.

`openai` and `anthropic` are made by the same generator, so that one way of asking serves both. Requests are put
together here, and answers taken raw: the libraries' own ways take longer than all else that is done with them.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import httpx2

from shared.inference.config import Target
from shared.inference.providers import connections, failures, keys, reading
from shared.kernel.errors import RunyardError

# How long a stream may say nothing, at least.
_SILENCE_S: Final = 60.0
HEADERS: Final = {"Accept": "application/json", "Content-Type": "application/json", "User-Agent": "runyard"}


class Plain:
    """Mixed into a library's client: requests as `Library` says, without what would tell its maker of our platform."""

    def _build_request(self, options: Any, *, retries_taken: int = 0) -> httpx2.Request:  # noqa: ARG002
        return connections.request(
            options.method,
            options.url,
            headers=options.headers,
            content=options.content,
            silence_s=options.timeout,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Library:
    """A client library: its client (for addresses that tenants name: a guarded one), options, and errors.

    `options` makes a request's from method and URL; `headers` are those of a key, and `more` of this request.
    """

    client: Callable[[bool], Any]
    options: Callable[[str, str], Any]
    headers: Callable[[str], Mapping[str, Any]]
    failed: type[Exception]
    refused: type[Exception]

    async def json(
        self,
        target: Target,
        key: str,
        url: str,
        body: Mapping[str, Any] | None,
        timeout_s: float,
        *,
        more: Mapping[str, str] | None = None,
    ) -> Any:
        """Return the answer's JSON; a `body` of None asks with GET. Raises errors of ours."""
        answer = await self.answer(target, key, url, body, timeout_s, more=more)
        check_type(answer, "application/json")
        return reading.read_json(connections.content(answer))

    async def answer(
        self,
        target: Target,
        key: str,
        url: str,
        body: Mapping[str, Any] | None,
        timeout_s: float,
        *,
        stream: bool = False,
        more: Mapping[str, str] | None = None,
    ) -> httpx2.Response:
        """Return the answer, of a stream its beginning. A key that is refused is looked up anew, once."""
        try:
            async with asyncio.timeout(timeout_s):
                try:
                    return await self._send(target, key, url, body, timeout_s, stream, more)
                except self.refused as error:
                    given = _status(error) == 401
                    anew = await keys.read_anew(target.account.secret_arn, refused=key) if given else None
                    if anew is None:
                        raise
                    key = anew
                return await self._send(target, key, url, body, timeout_s, stream, more)
        except RunyardError as error:
            failure = error
        except self.refused as error:
            failure = _of_status(error, key)
        except TimeoutError:
            failure = failures.timed_out()
        except self.failed as error:
            # One of the libraries wraps what the connections raise.
            cause = error.__cause__
            failure = cause if isinstance(cause, RunyardError) else failures.unusable(type(error).__name__)
        raise failures.bare(failure)

    async def _send(
        self,
        target: Target,
        key: str,
        url: str,
        body: Mapping[str, Any] | None,
        timeout_s: float,
        stream: bool,
        more: Mapping[str, str] | None,
    ) -> httpx2.Response:
        # No variable may hold the headers: tracebacks with variables would show the key.
        answer: httpx2.Response = await self.client(target.account.own).request(
            httpx2.Response,
            self.options("get" if body is None else "post", url).model_copy(
                update={
                    "content": None if body is None else reading.write_json(body),
                    "timeout": max(timeout_s, _SILENCE_S) if stream else timeout_s,
                    "headers": {**self.headers(key), **more} if more else self.headers(key),
                }
            ),
            stream=stream,
        )
        return answer


def check_type(answer: httpx2.Response, wanted: str) -> None:
    """Raise `ProviderAnsweredWrongly` for an answer of another type."""
    if not answer.headers.get("content-type", "").startswith(wanted):
        raise failures.malformed(f"it isn't {wanted}")


def _status(error: Any) -> int:
    return int(error.status_code)


def _of_status(error: Any, key: str) -> RunyardError:
    response: httpx2.Response = error.response
    try:
        body = reading.read_json(connections.content(response))
    except RunyardError:
        body = None
    return failures.of_status(response.status_code, body, response.headers, key=key)
