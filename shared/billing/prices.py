"""What things cost: the arithmetic on the price book, each event rounded by itself, half to even."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from shared.kernel.errors import InvalidRequest
from shared.kernel.money import price
from shared.usage.model import UnitPrice, UsageKind

TOKENS = 1_000_000
# A gigabyte of storage, as AWS counts it.
GB = 2**30
# As many CPU units make a vCPU as MiB make a GB, in a Fargate task definition.
_SHARES = 1024
_SECONDS_PER_HOUR = 3600
_SECONDS_PER_MINUTE = 60
# Fargate's biggest task has 16,384 units and 122,880 MiB.
_SIZE_DIGITS = 6
_AS_INPUT = -1
# What the ledger's columns can hold.
_MOST_MICROUSD = 2**63 - 1


class ModelNotPriced(InvalidRequest):
    """The price book has no price for this model."""

    code = "model_not_priced"


class NotPriced(InvalidRequest):
    """Asked for a moment before the first price book."""

    code = "not_priced"


class CannotPrice(InvalidRequest):
    """The usage can't be priced: what its price depends on is missing or out of range; the message says what."""

    code = "not_priceable"


@dataclass(frozen=True, slots=True)
class Priced:
    """What an event costs, and the price that it was worked out with."""

    cost_microusd: int
    unit_price: UnitPrice


@dataclass(frozen=True, slots=True)
class TokenCost:
    """Micro-dollars by kind of token; what is charged is the total."""

    input_microusd: int
    cached_microusd: int
    output_microusd: int
    written_microusd: int = 0

    @property
    def total_microusd(self) -> int:
        return self.input_microusd + self.cached_microusd + self.written_microusd + self.output_microusd


@dataclass(frozen=True, slots=True)
class TokenPrice:
    """Micro-dollars for a million tokens of a model, and where the figures come from.

    Input from the cache never costs more than other input; input that the provider puts there may. Models of one family
    can stand in for one another.
    """

    input_microusd: int
    cached_microusd: int
    output_microusd: int
    source: str
    family: str = ""
    # Most providers charge for it as for other input, which is the default.
    written_microusd: int = _AS_INPUT

    def __post_init__(self) -> None:
        if self.written_microusd == _AS_INPUT:
            object.__setattr__(self, "written_microusd", self.input_microusd)

    def cost(self, *, input_tokens: int, cached_tokens: int, output_tokens: int, written_tokens: int = 0) -> TokenCost:
        """Return the cost of one call. Of the `input_tokens`, so many were read from the cache, and put into it.

        The four kinds are four events of the usage ledger: each is rounded by itself.
        """
        fresh = input_tokens - cached_tokens - written_tokens
        if min(fresh, cached_tokens, written_tokens, output_tokens) < 0:
            raise ValueError(
                f"impossible token counts: {input_tokens=}, {cached_tokens=}, {written_tokens=}, {output_tokens=}"
            )
        return TokenCost(
            input_microusd=price(fresh, microusd=self.input_microusd, per=TOKENS),
            cached_microusd=price(cached_tokens, microusd=self.cached_microusd, per=TOKENS),
            output_microusd=price(output_tokens, microusd=self.output_microusd, per=TOKENS),
            written_microusd=price(written_tokens, microusd=self.written_microusd, per=TOKENS),
        )

    def most(self, *, input_tokens: int, output_tokens: int) -> int:
        """Return what a call with no more tokens than these can't exceed, whatever of its input was cached or written.

        It never falls when a count grows. Input that is divided into n events may be rounded up n times, which is at
        most (n + 1) / 2 micro-dollars above the rounding of the whole: for two and three events, n - 1 are enough.
        """
        dearest = max(self.input_microusd, self.written_microusd)
        whole = price(input_tokens, microusd=dearest, per=TOKENS)
        kinds = sum(rate > 0 for rate in (self.input_microusd, self.cached_microusd, self.written_microusd))
        divided = max(0, min(kinds, input_tokens) - 1)
        return whole + divided + price(output_tokens, microusd=self.output_microusd, per=TOKENS)

    def unit_price(self, kind: UsageKind) -> UnitPrice:
        """Return the price of this kind of token; raise `KeyError` for what isn't tokens."""
        rates = {
            UsageKind.TOKENS_INPUT: self.input_microusd,
            UsageKind.TOKENS_CACHED: self.cached_microusd,
            UsageKind.TOKENS_CACHE_WRITTEN: self.written_microusd,
            UsageKind.TOKENS_OUTPUT: self.output_microusd,
        }
        return UnitPrice(Decimal(rates[kind]), TOKENS)


@dataclass(frozen=True, slots=True)
class SandboxPrice:
    """Micro-dollars for an hour of one vCPU and of one GB of memory, charged by the second."""

    vcpu_hour_microusd: int
    gb_hour_microusd: int
    source: str

    def cost(self, *, cpu_units: int, memory_mib: int, seconds: int) -> int:
        """Return micro-dollars, rounded once."""
        # Both rates have the denominator 1,024 * 3,600, so that one exact sum is rounded.
        return price(seconds, microusd=self._hourly(cpu_units, memory_mib), per=_SHARES * _SECONDS_PER_HOUR)

    def unit_price(self, *, cpu_units: int, memory_mib: int) -> UnitPrice:
        """Return the price of an hour of a sandbox of this size: exact, with a part of a micro-dollar."""
        return UnitPrice(Decimal(self._hourly(cpu_units, memory_mib)) / _SHARES, _SECONDS_PER_HOUR)

    def _hourly(self, cpu_units: int, memory_mib: int) -> int:
        return cpu_units * self.vcpu_hour_microusd + memory_mib * self.gb_hour_microusd


@dataclass(frozen=True, slots=True)
class Rate:
    """Micro-dollars for something that has one price, and where the figure comes from."""

    microusd: int
    source: str


@dataclass(frozen=True, slots=True)
class PriceVersion:
    """The whole book from `effective_from` until the next version; `withdrawn` models were in the one before."""

    effective_from: datetime
    sandbox: SandboxPrice
    storage_gb_hour: Rate
    call_minute: Rate
    memory_operation: Rate
    api_call: Rate
    models: Mapping[str, TokenPrice]
    withdrawn: frozenset[str] = frozenset()

    def tokens(self, model: str) -> TokenPrice:
        """Return the model's price; raise `ModelNotPriced`."""
        found = self.models.get(model)
        if found is None:
            raise ModelNotPriced(
                f"The model {model[:100]} has no price, so it can't be charged for. The operator adds one to the "
                "price book.",
                param="model",
            )
        return found

    def price_of(self, kind: UsageKind, quantity: int, dimensions: Mapping[str, str]) -> Priced:
        """Return what this much of this kind costs; raise `ModelNotPriced` or `CannotPrice`."""
        if quantity < 0:
            raise CannotPrice(f"A quantity can't be negative: {quantity}.", param="quantity")
        match kind:
            case (
                UsageKind.TOKENS_INPUT
                | UsageKind.TOKENS_CACHED
                | UsageKind.TOKENS_CACHE_WRITTEN
                | UsageKind.TOKENS_OUTPUT
            ):
                return _priced(quantity, self.tokens(_dimension(kind, dimensions, "model")).unit_price(kind))
            case UsageKind.SANDBOX_SECONDS:
                cpu_units, memory_mib = (_size(kind, dimensions, name) for name in ("cpu_units", "memory_mib"))
                return _priced(quantity, self.sandbox.unit_price(cpu_units=cpu_units, memory_mib=memory_mib))
            case UsageKind.STORAGE_BYTE_HOURS:
                return _priced(quantity, UnitPrice(Decimal(self.storage_gb_hour.microusd), GB))
            case UsageKind.CALL_SECONDS:
                return _priced(quantity, UnitPrice(Decimal(self.call_minute.microusd), _SECONDS_PER_MINUTE))
            case UsageKind.MEMORY_OPERATIONS:
                return _priced(quantity, UnitPrice(Decimal(self.memory_operation.microusd), 1))
            case UsageKind.API_CALLS:
                return _priced(quantity, UnitPrice(Decimal(self.api_call.microusd), 1))


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

    def until(self, version: PriceVersion) -> datetime | None:
        """Return when the next version takes over from this one; None while none is known."""
        later = [other.effective_from for other in self.versions if other.effective_from > version.effective_from]
        return min(later, default=None)


def _priced(quantity: int, unit: UnitPrice) -> Priced:
    cost = price(quantity, microusd=unit.microusd, per=unit.units)
    if cost > _MOST_MICROUSD:
        raise CannotPrice("So much of it costs more than can be counted.", param="quantity")
    return Priced(cost, unit)


def _dimension(kind: UsageKind, dimensions: Mapping[str, str], name: str) -> str:
    found = dimensions.get(name)
    if not found:
        raise CannotPrice(f"{kind} are priced by {name}, which dimensions don't tell.", param=f"dimensions.{name}")
    return found


def _size(kind: UsageKind, dimensions: Mapping[str, str], name: str) -> int:
    text = _dimension(kind, dimensions, name)
    # `int` would take signs, spaces, underscores and other scripts' digits too.
    if not (text.isascii() and text.isdigit() and len(text) <= _SIZE_DIGITS and int(text) > 0):
        raise CannotPrice(f"{name}: expected a whole number above 0, found {text[:20]!r}.", param=f"dimensions.{name}")
    return int(text)
