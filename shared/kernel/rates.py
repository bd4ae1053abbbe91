"""Rates as they travel: what a plan allows, and the text in which the authorizer hands a caller's own to the edge."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class RateKind(StrEnum):
    """The counters of rate limits: one request counts on one of them."""

    READ = "read"
    CREATE = "create"
    MODEL = "model"


class Share(StrEnum):
    """Whose bucket it is. `KEY` counts requests of every kind against a key's own limit."""

    KEY = "key"
    ACTOR = "actor"
    ORG = "org"


@dataclass(frozen=True, slots=True)
class Rate:
    """A token bucket: holds `burst` requests, refilled at `per_minute`."""

    per_minute: int
    burst: int


type Rates = Mapping[tuple[Share, RateKind | None], Rate]


def show(rates: Rates) -> str:
    """Return e.g. `actor.read=300/50 org.read=600/100 key=60/10`: what `Caller.rates` carries."""
    return " ".join(f"{_name(share, kind)}={rate.per_minute}/{rate.burst}" for (share, kind), rate in rates.items())


def read(text: str, kind: RateKind) -> list[tuple[str, Rate]]:
    """Return the buckets that a request of this kind counts on, by name, the caller's own first."""
    wanted = {_name(Share.KEY, None), _name(Share.ACTOR, kind), _name(Share.ORG, kind)}
    pairs = (entry.partition("=") for entry in text.split())
    return [(name, _rate(value)) for name, _, value in pairs if name in wanted]


def _name(share: Share, kind: RateKind | None) -> str:
    return share if kind is None else f"{share}.{kind}"


def _rate(text: str) -> Rate:
    per_minute, _, burst = text.partition("/")
    return Rate(int(per_minute), int(burst))
