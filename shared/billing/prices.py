"""What things cost: the price book of `price_book.json`, and the arithmetic on it."""

import json
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path

from shared.kernel.errors import InvalidRequest
from shared.kernel.money import price

_TOKENS = 1_000_000
# As many CPU units make a vCPU as MiB make a GB, in a Fargate task definition.
_SHARES = 1024
_SECONDS_PER_HOUR = 3600


class ModelNotPriced(InvalidRequest):
    """The price book has no price for this model."""

    code = "model_not_priced"


class NotPriced(InvalidRequest):
    """Asked for a moment before the first price book."""

    code = "not_priced"


@dataclass(frozen=True, slots=True)
class TokenCost:
    """Micro-dollars by kind of token; what is charged is the total."""

    input_microusd: int
    cached_microusd: int
    output_microusd: int

    @property
    def total_microusd(self) -> int:
        return self.input_microusd + self.cached_microusd + self.output_microusd


@dataclass(frozen=True, slots=True)
class TokenPrice:
    """Micro-dollars for a million tokens of a model, and where the figures come from."""

    input_microusd: int
    cached_microusd: int
    output_microusd: int
    source: str

    def cost(self, *, input_tokens: int, cached_tokens: int, output_tokens: int) -> TokenCost:
        """Return the cost of one call. As in OpenAI's `usage`, `cached_tokens` of the `input_tokens` were cached.

        The input is rounded as a whole and then divided, so that the cost never falls when a count grows: the worst
        case that was held is never less than what is settled.
        """
        if not 0 <= cached_tokens <= input_tokens or output_tokens < 0:
            raise ValueError(f"impossible token counts: {input_tokens=}, {cached_tokens=}, {output_tokens=}")
        cached = cached_tokens * self.cached_microusd
        whole_input = price((input_tokens - cached_tokens) * self.input_microusd + cached, microusd=1, per=_TOKENS)
        cached_part = price(cached, microusd=1, per=_TOKENS)
        return TokenCost(
            input_microusd=whole_input - cached_part,
            cached_microusd=cached_part,
            output_microusd=price(output_tokens, microusd=self.output_microusd, per=_TOKENS),
        )


@dataclass(frozen=True, slots=True)
class SandboxPrice:
    """Micro-dollars for an hour of one vCPU and of one GB of memory, charged by the second."""

    vcpu_hour_microusd: int
    gb_hour_microusd: int
    source: str

    def cost(self, *, cpu_units: int, memory_mib: int, seconds: int) -> int:
        """Return micro-dollars, rounded once."""
        # Both rates have the denominator 1,024 * 3,600, so that one exact sum is rounded.
        hourly = cpu_units * self.vcpu_hour_microusd + memory_mib * self.gb_hour_microusd
        return price(seconds * hourly, microusd=1, per=_SHARES * _SECONDS_PER_HOUR)


@dataclass(frozen=True, slots=True)
class PriceVersion:
    """The whole book from `effective_from` until the next version."""

    effective_from: datetime
    sandbox: SandboxPrice
    models: dict[str, TokenPrice]


@dataclass(frozen=True, slots=True)
class PriceBook:
    """Every version, the newest first."""

    versions: tuple[PriceVersion, ...]

    def at(self, moment: datetime) -> PriceVersion:
        """Return the version in force; raise `NotPriced` before the first."""
        for version in self.versions:
            if version.effective_from <= moment:
                return version
        raise NotPriced(f"There were no prices yet at {moment.isoformat()}.")

    def tokens(self, model: str, *, at: datetime) -> TokenPrice:
        """Return the model's price; raise `ModelNotPriced`."""
        found = self.at(at).models.get(model)
        if found is None:
            raise ModelNotPriced(
                f"The model {model} has no price, so it can't be charged for. The operator adds one to the price book.",
                param="model",
            )
        return found


def read(text: str) -> PriceBook:
    """Return the book of a JSON text; raise when a field is missing or unknown."""
    versions = [
        PriceVersion(
            effective_from=datetime.fromisoformat(version["effective_from"]),
            sandbox=SandboxPrice(**version["sandbox"]),
            models={name: TokenPrice(**prices) for name, prices in version["models"].items()},
        )
        for version in json.loads(text)["versions"]
    ]
    return PriceBook(tuple(sorted(versions, key=lambda version: version.effective_from, reverse=True)))


@cache
def book() -> PriceBook:
    """Return the book that this release carries."""
    return read(Path(__file__).with_name("price_book.json").read_text())
