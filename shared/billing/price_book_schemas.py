"""Public JSON of prices."""

from datetime import datetime
from typing import Literal, Self

from pydantic import Field

from shared.billing.prices import GB, TOKENS, PriceVersion, Rate, TokenPrice
from shared.kernel.fields import Output
from shared.usage.model import UsageKind

_SOURCE = "Where the figure was taken from, or that it is illustrative."


class ModelPriceOut(Output):
    """What a million tokens of a model cost, in micro-dollars."""

    object: Literal["model_price"] = "model_price"
    model: str = Field(examples=["gpt-5-mini"])
    family: str = Field(description="Models of one family can stand in for one another; empty for none.")
    per_tokens: int = Field(description="How many tokens the prices are for.", examples=[TOKENS])
    input_microusd: int = Field(examples=[250_000])
    cached_microusd: int = Field(description="For input that the provider read from its cache.", examples=[25_000])
    written_microusd: int = Field(
        description="For input that the provider put into its cache; for most as for other input.", examples=[250_000]
    )
    output_microusd: int = Field(examples=[2_000_000])
    source: str = Field(description=_SOURCE)

    @classmethod
    def of(cls, model: str, price: TokenPrice) -> Self:
        return cls(
            model=model,
            family=price.family,
            per_tokens=TOKENS,
            input_microusd=price.input_microusd,
            cached_microusd=price.cached_microusd,
            written_microusd=price.written_microusd,
            output_microusd=price.output_microusd,
            source=price.source,
        )


class SandboxPriceOut(Output):
    """What an hour of a sandbox costs by its size; charged by the second."""

    vcpu_hour_microusd: int = Field(description="For 1,024 CPU units.")
    gb_hour_microusd: int = Field(description="For 1,024 MiB of memory.")
    source: str = Field(description=_SOURCE)


class UnitPriceOut(Output):
    """What everything costs that has one price."""

    object: Literal["unit_price"] = "unit_price"
    kind: UsageKind
    unit: str = Field(description="What a quantity of 1 is.", examples=["byte_hour"])
    microusd: int = Field(description="What `per_units` units cost.", examples=[137])
    per_units: int = Field(examples=[GB])
    source: str = Field(description=_SOURCE)

    @classmethod
    def of(cls, kind: UsageKind, rate: Rate, *, per_units: int) -> Self:
        return cls(kind=kind, unit=kind.unit, microusd=rate.microusd, per_units=per_units, source=rate.source)


class PriceBookOut(Output):
    """All prices of a moment. Each usage event is priced by when it occurred and rounded by itself, half to even."""

    object: Literal["price_book"] = "price_book"
    effective_from: datetime
    effective_until: datetime | None = Field(description="When other prices take over; null while none are known.")
    units: list[UnitPriceOut]
    sandbox: SandboxPriceOut
    models: list[ModelPriceOut] = Field(description="By name.")

    @classmethod
    def of(cls, version: PriceVersion, *, until: datetime | None) -> Self:
        return cls(
            effective_from=version.effective_from,
            effective_until=until,
            units=[
                UnitPriceOut.of(UsageKind.STORAGE_BYTE_HOURS, version.storage_gb_hour, per_units=GB),
                UnitPriceOut.of(UsageKind.CALL_SECONDS, version.call_minute, per_units=60),
                UnitPriceOut.of(UsageKind.MEMORY_OPERATIONS, version.memory_operation, per_units=1),
                UnitPriceOut.of(UsageKind.API_CALLS, version.api_call, per_units=1),
            ],
            sandbox=SandboxPriceOut(
                vcpu_hour_microusd=version.sandbox.vcpu_hour_microusd,
                gb_hour_microusd=version.sandbox.gb_hour_microusd,
                source=version.sandbox.source,
            ),
            models=[ModelPriceOut.of(name, version.models[name]) for name in sorted(version.models)],
        )
