"""Asks Amazon Bedrock's Converse API with boto3, in threads: it has no way of waiting that doesn't block.

It is asked under the platform's own role: there is no key, and only the operator's accounts lead here.
"""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from typing import Any, Final

import boto3
import botocore.exceptions as botocore
import urllib3.exceptions as urllib3
from botocore.config import Config
from botocore.eventstream import ParserError
from botocore.parsers import ResponseParserError

from shared.inference.answers import Answer, Chunk
from shared.inference.calls import Tokens
from shared.inference.config import Target
from shared.inference.errors import NotServed, ProviderMisconfigured, ProviderUnreachable
from shared.inference.providers import failures
from shared.inference.providers.bedrock_answering import Reader, read_message
from shared.inference.providers.bedrock_asking import request
from shared.kernel.errors import RunyardError

_CONNECT_TIMEOUT_S: Final = 3.0
# A client's timeout is fixed when it is made, which takes long: there is one for each of these.
_TIMEOUTS_S: Final = (30, 60, 120, 300, 900)
_AT_ONCE: Final = 128
_SILENCE_S: Final = 60.0

# At level DEBUG these write down requests and answers, and with them the role's session token.
for _name in ("auth", "endpoint", "hooks", "httpsession", "parsers", "retryhandler"):
    logging.getLogger(f"botocore.{_name}").setLevel(logging.INFO)


class BedrockProvider:
    """See `answers.Provider`. The key is not looked at."""

    async def chat(
        self,
        target: Target,
        key: str,  # noqa: ARG002
        body: Mapping[str, Any],
        *,
        timeout_s: float,
    ) -> Answer:
        asked = request(target.model, body)
        client = await _client_of(target, timeout_s)
        found = await _in_time(lambda: client.converse(**asked), timeout_s)
        return read_message(found, call_id=_call_id(found), model=target.model)

    async def stream(
        self,
        target: Target,
        key: str,  # noqa: ARG002
        body: Mapping[str, Any],
        *,
        first_token_s: float,
        timeout_s: float,
    ) -> AsyncGenerator[Chunk]:
        began = time.monotonic()
        asked = request(target.model, body)
        client = await _client_of(target, max(first_token_s, _SILENCE_S))
        answer = _Answer(client, asked)
        reader: Reader | None = None
        failure: RunyardError | None = None
        started = False
        try:
            while True:
                left = began + (timeout_s if started else first_token_s) - time.monotonic()
                event = await answer.next_within(left)
                if event is None:
                    break
                reader = reader or Reader(call_id=answer.call_id, model=target.model)
                for chunk in reader.read(event):
                    started = started or bool(chunk.text)
                    yield chunk
            if reader is None or not reader.done:
                failure = failures.broken()
        except RunyardError as error:
            failure = failures.broken() if started else error
        finally:
            answer.close()
        if failure is not None:
            raise failures.bare(failure)

    async def embed(
        self,
        target: Target,
        key: str,  # noqa: ARG002
        texts: Sequence[str],  # noqa: ARG002
        *,
        dimensions: int | None,  # noqa: ARG002
        timeout_s: float,  # noqa: ARG002
    ) -> tuple[tuple[tuple[float, ...], ...], Tokens]:
        raise NotServed(f"{target.account.name} is asked for chats alone; choose another model.", param="model")

    async def models(
        self,
        target: Target,
        key: str,  # noqa: ARG002
        *,
        timeout_s: float,  # noqa: ARG002
    ) -> list[dict[str, Any]]:
        # Which there are is told by another service, of which the role needs to know nothing.
        return [
            {"id": model, "object": "model", "created": 0, "owned_by": "bedrock"}
            for model in sorted(target.account.models)
        ]


PROVIDER: Final = BedrockProvider()


class _Answer:
    """A stream that a thread reads: its events come through a queue, and None at its end."""

    def __init__(self, client: Any, asked: Mapping[str, Any]) -> None:
        self.call_id = ""
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[object] = asyncio.Queue()
        self._stream: Any = None
        self._closed = False
        _threads().submit(self._read, client, asked)

    async def next_within(self, seconds: float) -> Any:
        """Return the next event, None after the last; raise errors of ours."""
        try:
            async with asyncio.timeout(seconds):
                found = await self._queue.get()
        except TimeoutError:
            found = failures.timed_out()
        if isinstance(found, RunyardError):
            raise found
        return found

    def close(self) -> None:
        """End the connection unless it has ended: the thread's read ends too, wherever it is."""
        self._closed = True
        if self._stream is not None:
            _hang_up(self._stream)

    def _read(self, client: Any, asked: Mapping[str, Any]) -> None:
        try:
            found = client.converse_stream(**asked)
            self._stream, self.call_id = found["stream"], _call_id(found)
            try:
                for event in () if self._closed else self._stream:
                    self._tell(event)
                    if self._closed:
                        break
            finally:
                self._stream.close()
            last = None
        except _FAILURES as error:
            last = _failure(error)
        self._tell(last)

    def _tell(self, what: object) -> None:
        # The loop may be gone by now, and whoever waited with it.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._queue.put_nowait, what)


def _hang_up(stream: Any) -> None:
    # To close it from here would not wake the thread that waits for it.
    with suppress(ValueError, RuntimeError, OSError):
        stream._raw_stream.shutdown()


async def _in_time(ask: Callable[[], Any], timeout_s: float) -> Any:
    """Return what `ask` returns, asked in a thread; raise errors of ours."""
    try:
        async with asyncio.timeout(timeout_s):
            return await asyncio.get_running_loop().run_in_executor(_threads(), ask)
    except TimeoutError:
        failure: RunyardError = failures.timed_out()
    except _FAILURES as error:
        failure = _failure(error)
    raise failures.bare(failure)


async def _client_of(target: Target, timeout_s: float) -> Any:
    longest = next((each for each in _TIMEOUTS_S if each >= timeout_s), _TIMEOUTS_S[-1])
    return await _in_time(lambda: _client(target.account.region, target.account.base_url, longest), timeout_s)


@cache
def _client(region: str, base_url: str, timeout_s: int) -> Any:
    config = Config(
        connect_timeout=_CONNECT_TIMEOUT_S,
        read_timeout=timeout_s,
        # What is tried again, and where, is for the route to say.
        retries={"total_max_attempts": 1},
        max_pool_connections=_AT_ONCE,
    )
    # A session of its own: boto3's default one may not be used by several threads at once.
    return boto3.Session().client(
        "bedrock-runtime", region_name=region or None, endpoint_url=base_url or None, config=config
    )


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="bedrock")


def _call_id(found: Mapping[str, Any]) -> str:
    return f"chatcmpl-{found.get('ResponseMetadata', {}).get('RequestId', '')}"


_FAILURES: Final = (
    botocore.BotoCoreError,
    botocore.ClientError,
    urllib3.HTTPError,
    ParserError,
    ResponseParserError,
    OSError,
    ValueError,
)


def _failure(error: Exception) -> RunyardError:
    match error:
        case botocore.ClientError():
            said = error.response.get("Error", {})
            about = error.response.get("ResponseMetadata", {})
            status = about.get("HTTPStatusCode", _STATUSES.get(str(said.get("Code")), 500))
            body = {"message": said.get("Message")}
            return failures.of_status(status, body, about.get("HTTPHeaders", {}))
        case botocore.ReadTimeoutError() | urllib3.ReadTimeoutError():
            return failures.timed_out()
        case botocore.NoCredentialsError() | botocore.PartialCredentialsError() | botocore.NoRegionError():
            return ProviderMisconfigured("The platform has no role, or no region, to ask the model provider with.")
        case botocore.ParamValidationError():
            return failures.refused(str(error), key="", code=None)
        case ParserError() | ResponseParserError() | ValueError():
            return failures.malformed()
    return ProviderUnreachable("The model provider can't be reached, or hung up; try again shortly.", retry_after_s=1)


# Of errors that come in a stream, which have no status of their own.
_STATUSES: Final = {
    "throttlingException": 429,
    "validationException": 400,
    "serviceUnavailableException": 503,
    "internalServerException": 500,
    "modelStreamErrorException": 500,
}
