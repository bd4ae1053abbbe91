"""What becomes known of a request while it is under way: the edge tells it in headers, of refusals and failures too."""

from dataclasses import dataclass, field

from shared.inference.calls import CacheStatus
from shared.kernel.buckets import Counted


@dataclass(slots=True, kw_only=True)
class Trace:
    """Filled in by the gateway as it goes. `provider_ms` is all the time that was spent waiting for providers.

    `request_counted`: what closed the call counted its request (api_calls) too; else the edge does.
    """

    counted: Counted = field(default_factory=Counted)
    provider: str = ""
    cache: CacheStatus = CacheStatus.OFF
    provider_ms: int = 0
    attempts: int = 0
    cost_microusd: int = 0
    request_counted: bool = False
