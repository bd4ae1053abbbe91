"""Who calls: as API Gateway's authorizer found, or, where nothing stands before us, by the Authorization header."""

import asyncio
import hashlib
import json
import time
from dataclasses import dataclass, field, replace
from typing import Any

from starlette.types import Scope

from shared.identity import service as identity
from shared.kernel import envelope
from shared.kernel.caller import Caller
from shared.kernel.errors import RouteNotFound, RunyardError, Unauthenticated

# As long as API Gateway keeps its authorizer's answers.
_KEPT_S = 5.0
_KEPT_AT_MOST = 10_000


@dataclass(slots=True)
class Authenticator:
    """Knows a header's bearer for five seconds, refusals included; the same header is looked up once at a time."""

    _known: dict[bytes, tuple[float, Caller | Unauthenticated]] = field(default_factory=dict)
    _asked: dict[bytes, asyncio.Task[Caller]] = field(default_factory=dict)

    async def authenticate(self, header: str | None) -> Caller:
        """Return the bearer; raise `Unauthenticated`, or `Unavailable` while nobody can be looked up."""
        digest = hashlib.sha256((header or "").encode()).digest()
        kept = self._known.get(digest)
        if kept is not None and kept[0] > time.monotonic():
            if isinstance(kept[1], Caller):
                return kept[1]
            raise _again(kept[1])
        asked = self._asked.get(digest)
        if asked is None:
            asked = self._asked[digest] = asyncio.create_task(self._look_up(digest, header))
            asked.add_done_callback(lambda _: self._asked.pop(digest, None))
        # Whoever goes away doesn't take the look-up from those who wait for it too.
        return await asyncio.shield(asked)

    async def _look_up(self, digest: bytes, header: str | None) -> Caller:
        try:
            found = await asyncio.to_thread(identity.authenticate, header)
        except Unauthenticated as error:
            self._keep(digest, error)
            raise
        self._keep(digest, found)
        return found

    def _keep(self, digest: bytes, found: Caller | Unauthenticated) -> None:
        self._known.pop(digest, None)
        if len(self._known) >= _KEPT_AT_MOST:
            # The oldest: what is looked up anew moves to the end.
            del self._known[next(iter(self._known))]
        self._known[digest] = (time.monotonic() + _KEPT_S, found)


def from_api_gateway(scope: Scope, *, request_id: str, headers: dict[str, str]) -> Caller:
    """Return the caller that the authorizer handed to API Gateway; raise what it refused them with."""
    context: dict[str, Any] = scope["aws.event"].get("requestContext", {})
    found: dict[str, Any] = context.get("authorizer", {}).get("lambda") or {}
    seen = str(context.get("http", {}).get("sourceIp", ""))
    return Caller.from_context(found, request_id=request_id, ip=_address(seen, headers))


async def from_header(
    authenticator: Authenticator, scope: Scope, *, request_id: str, headers: dict[str, str]
) -> Caller:
    """Return the bearer of the Authorization header; raise `Unauthenticated`, and see `through_the_door`."""
    found = await authenticator.authenticate(headers.get("authorization"))
    return replace(found, request_id=request_id, ip=_address(_seen(scope, headers), headers))


def through_the_door(headers: dict[str, str]) -> None:
    """Raise `RouteNotFound` for a request past the edge, where there is one: it has the limits and the firewall."""
    if envelope.has_edge() and not envelope.from_edge(headers.get("x-runyard-edge", "")):
        raise RouteNotFound("The API is not reached at this address; it is at the platform's own.")


def _seen(scope: Scope, headers: dict[str, str]) -> str:
    """Return who connected: under the Lambda Web Adapter as it tells in a header that it always sets anew."""
    told = headers.get("x-amzn-request-context")
    if told is not None and envelope.from_edge(headers.get("x-runyard-edge", "")):
        try:
            return str(json.loads(told)["http"]["sourceIp"])
        except (ValueError, KeyError, TypeError):
            return ""
    return scope["client"][0] if scope.get("client") else ""


def _address(seen: str, headers: dict[str, str]) -> str:
    if not envelope.from_edge(headers.get("x-runyard-edge", "")):
        return seen
    return envelope.first_address(headers.get("x-forwarded-for", "").split(","), seen=seen)


def _again(refusal: RunyardError) -> RunyardError:
    # An exception that is raised twice gathers tracebacks.
    return type(refusal)(refusal.message, param=refusal.param)
