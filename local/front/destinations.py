"""Where the door hands requests to: the emulator's HTTP API, or the model gateway, whose answers stream."""

from dataclasses import dataclass
from typing import Protocol

from local.front.upstream import Upstream
from local.settings import LOOPBACK


class Destination(Protocol):
    """Who answers, and how the door has to ask."""

    @property
    def url(self) -> str: ...

    @property
    def unreachable(self) -> str:
        """The door's error code for when nobody answers."""
        ...

    @property
    def patience_s(self) -> float:
        """How long an answer may take to begin, or to go on."""
        ...

    @property
    def asks_an_authorizer(self) -> bool:
        """Whether a request without a key has to show one all the same, to be answered in the API's own words."""
        ...

    def host(self) -> str | None:
        """Return the `Host` to ask for; None while nothing is deployed."""
        ...


@dataclass(frozen=True, slots=True)
class HttpApi:
    """The emulator, which tells APIs apart by `Host` as API Gateway does."""

    upstream: Upstream
    unreachable: str = "emulator_unreachable"
    # Longer than API Gateway waits for a function (30 s), so that its own answer to a slow one gets through.
    patience_s: float = 65
    asks_an_authorizer: bool = True

    @property
    def url(self) -> str:
        return self.upstream.url

    def host(self) -> str | None:
        api_id = self.upstream.apis().http
        return None if api_id is None else self.upstream.host(api_id)


@dataclass(frozen=True, slots=True)
class Gateway:
    """The part `gateway`, which runs from the first deploy on."""

    upstream: Upstream
    port: int
    unreachable: str = "gateway_unreachable"
    # Longer than a call may take.
    patience_s: float = 910
    asks_an_authorizer: bool = False

    @property
    def url(self) -> str:
        return f"http://{self.host_of_it}"

    @property
    def host_of_it(self) -> str:
        return f"{LOOPBACK}:{self.port}"

    def host(self) -> str | None:
        return None if self.upstream.apis().http is None else self.host_of_it
