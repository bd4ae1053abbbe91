"""What usage costs by the price book of this release: an event is priced by when it occurred."""

from collections.abc import Mapping
from datetime import datetime

from shared.billing.price_book import book
from shared.billing.prices import Priced, PriceVersion, TokenPrice
from shared.kernel.errors import NotFound
from shared.usage.model import UsageKind


def price_of(kind: UsageKind, quantity: int, dimensions: Mapping[str, str], *, at: datetime) -> Priced:
    """Return what an event that occurred `at` this moment costs, and its unit price.

    Tokens need the dimension `model`, sandbox seconds `cpu_units` and `memory_mib`. Raises `ModelNotPriced`,
    `CannotPrice`, and `NotPriced` before the first price book.
    """
    return prices_at(at).price_of(kind, quantity, dimensions)


def token_price(model: str, *, at: datetime) -> TokenPrice:
    """Return the model's price at a moment; raise `ModelNotPriced`."""
    return prices_at(at).tokens(model)


def model_price(model: str, *, at: datetime) -> TokenPrice:
    """Return the price of a model that is asked for by name; raise `NotFound` when it had none at that moment."""
    found = prices_at(at).models.get(model)
    if found is None:
        raise NotFound(
            f"No model named {model[:100]!r} has a price; GET /v1/price-book tells which have.", param="model"
        )
    return found


def price_of_tokens(
    model: str, *, input_tokens: int, cached_tokens: int, output_tokens: int, at: datetime, written_tokens: int = 0
) -> int:
    """Return micro-dollars; of the `input_tokens` the provider read so many from its cache, and put so many there."""
    cost = token_price(model, at=at).cost(
        input_tokens=input_tokens,
        cached_tokens=cached_tokens,
        written_tokens=written_tokens,
        output_tokens=output_tokens,
    )
    return cost.total_microusd


def price_of_sandbox(*, cpu_units: int, memory_mib: int, seconds: int, at: datetime) -> int:
    """Return micro-dollars of a sandbox of this size (1,024 CPU units are one vCPU) for this long."""
    return prices_at(at).sandbox.cost(cpu_units=cpu_units, memory_mib=memory_mib, seconds=seconds)


def prices_at(moment: datetime) -> PriceVersion:
    """Return all prices in force at a moment; raise `NotPriced` before the first."""
    return book().at(moment)


def prices_until(version: PriceVersion) -> datetime | None:
    """Return when other prices take over from these; None while none are known."""
    return book().until(version)
