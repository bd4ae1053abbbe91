"""What the edge asks of the gateway behind it."""

from collections.abc import Sequence
from typing import Any, Protocol

from shared.inference.asking import Ask, CacheControl, Embedded, Reply, Streaming
from shared.inference.trace import Trace
from shared.kernel.caller import Caller


class Gateway(Protocol):
    """The functions of `shared.inference.gateway`; that module is one."""

    async def complete(self, ask: Ask, trace: Trace) -> Reply: ...

    async def stream(self, ask: Ask, trace: Trace) -> Streaming: ...

    async def embed(
        self,
        caller: Caller,
        *,
        texts: Sequence[str],
        model: str | None,
        dimensions: int | None,
        source_id: str,
        repeatable: bool,
        trace: Trace,
        cache: CacheControl,
        timeout_s: float,
        limited: bool,
        began_ms: int,
    ) -> Embedded: ...

    async def models(self, caller: Caller) -> list[dict[str, Any]]: ...
