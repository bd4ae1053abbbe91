"""One request and its answer: who asks, what is known of it so far, and how the answer is sent."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs
from uuid import uuid4

from pydantic import TypeAdapter, ValidationError
from pydantic_core import to_json
from starlette.types import Receive, Scope, Send

from shared.inference.asking import Ask, CacheControl
from shared.inference.caching import cache_control
from shared.inference.edge import headers as fields
from shared.inference.edge.gateways import Gateway
from shared.inference.edge.headers import Headers
from shared.inference.edge.once import Claim
from shared.inference.model import ChatRequest
from shared.inference.trace import Trace
from shared.kernel import clock, counting, limiting
from shared.kernel.caller import Caller
from shared.kernel.errors import InvalidRequest
from shared.kernel.limiting import Counted
from shared.kernel.rates import RateKind

# Below API Gateway's 30 s: a silent provider ends in our error, and what was held is given back.
_BEHIND_API_GATEWAY_S = 25.0
# Below the 60 s that CloudFront waits for a first byte.
_WHOLE_S = 55.0
_STREAM_S = 600.0
_BOOL = TypeAdapter(bool)
_ANY_CACHE = CacheControl()


@dataclass(slots=True)
class Exchange:
    """`caller` is there once it is known, `status` once an answer has begun."""

    gateway: Gateway
    scope: Scope
    receive: Receive
    send: Send
    kind: RateKind = RateKind.READ
    trace: Trace = field(default_factory=Trace)
    began_ms: int = field(default_factory=clock.monotonic_ms)
    headers: dict[str, str] = field(init=False)
    request_id: str = field(init=False)
    status: int = 0
    _caller: Caller | None = None

    def __post_init__(self) -> None:
        found: dict[str, str] = {}
        for raw_name, raw_value in self.scope["headers"]:
            name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
            # A header that was sent twice is one with a comma, as API Gateway hands it on.
            found[name] = f"{found[name]},{value}" if name in found else value
        self.headers = found
        event: Mapping[str, Any] = self.scope.get("aws.event") or {}
        self.request_id = str(event.get("requestContext", {}).get("requestId") or f"req_{uuid4().hex}")

    @property
    def caller(self) -> Caller:
        if self._caller is None:
            raise RuntimeError("nobody was authenticated")
        return self._caller

    @caller.setter
    def caller(self, found: Caller) -> None:
        self._caller = found

    @property
    def dry_run(self) -> bool:
        """Whether the query asks only what this would cost; raise `InvalidRequest`."""
        query: bytes = self.scope["query_string"]
        given = parse_qs(query.decode("latin-1"), keep_blank_values=True).get("dry_run") if query else None
        if given is None:
            return False
        try:
            return _BOOL.validate_python(given[-1])
        except ValidationError as error:
            raise InvalidRequest("dry_run: say true or false.", param="dry_run") from error

    @property
    def cache_control(self) -> CacheControl:
        """What the request allows the cache; nearly all say nothing about it."""
        spoken = "cache-control" in self.headers or "x-runyard-cache" in self.headers
        return cache_control(self.headers) if spoken else _ANY_CACHE

    def claim(self, raw: bytes) -> Claim:
        """Return the request's claim on its Idempotency-Key."""
        target = f"{self.scope['method']} {self.scope['path']}?{self.scope['query_string'].decode('latin-1')}"
        return Claim.read(self.caller, key=self.headers.get("idempotency-key"), target=target, raw=raw)

    def ask(self, request: ChatRequest, claim: Claim, *, stream: bool = False, include_usage: bool = False) -> Ask:
        """Return what the gateway is asked."""
        return Ask(
            caller=self.caller,
            request=request,
            source_id=claim.source_id,
            repeatable=claim.repeatable,
            timeout_s=self.timeout_s(stream=stream),
            task=self.headers.get("x-runyard-task", "")[:64],
            cache=self.cache_control,
            began_ms=self.began_ms,
            limited=True,
            include_usage=include_usage,
        )

    def timeout_s(self, *, stream: bool = False) -> float:
        if "aws.event" in self.scope:
            return _BEHIND_API_GATEWAY_S
        return _STREAM_S if stream else _WHOLE_S

    async def admit(self) -> None:
        """Count the request against the caller's rates, unless the gateway did; raise `RateLimited`."""
        if self._caller is None or self.trace.counted != Counted():
            return
        self.trace.counted = await asyncio.to_thread(limiting.count, self._caller, self.kind)
        self.trace.counted.admit(spends=self.kind is RateKind.MODEL)

    async def answer(self, body: Mapping[str, Any] | bytes, status: int = 200, extra: Headers | None = None) -> None:
        """Send a whole answer."""
        content = body if isinstance(body, bytes) else to_json(body, inf_nan_mode="null")
        length = (b"content-length", b"%d" % len(content))
        await self.start(status, [fields.JSON, length, *(extra or ())], cost_microusd=self.trace.cost_microusd)
        await self.send({"type": "http.response.body", "body": content})

    async def start(self, status: int, given: Headers, *, cost_microusd: int | None) -> None:
        """Send the status and the headers."""
        self.status = status
        known = fields.of(
            self.trace,
            request_id=self.request_id,
            elapsed_ms=clock.monotonic_ms() - self.began_ms,
            cost_microusd=cost_microusd,
        )
        await self.send({"type": "http.response.start", "status": status, "headers": [*given, *known]})

    async def close(self) -> None:
        """Count an answered request that the gateway didn't count with its call."""
        if self._caller is not None and self.status and not self.trace.request_counted:
            await asyncio.to_thread(counting.count, self._caller, self.status)
