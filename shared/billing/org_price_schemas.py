"""Public JSON of prices that were agreed with an org."""

from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import Field

from shared.billing.org_prices_model import OrgPrice
from shared.billing.prices import TOKENS, TokenPrice
from shared.kernel.fields import Input, Moment, Output, PriceId

_AGREED = "agreed with the org"
Amount = Annotated[int, Field(ge=0, le=10_000_000_000)]


class TokenPrices(Input):
    """Micro-dollars for a million tokens of each kind."""

    input_microusd: Annotated[Amount, Field(examples=[200_000])]
    cached_microusd: Annotated[
        Amount, Field(description="For what the provider read from its cache.", examples=[20_000])
    ]
    written_microusd: Annotated[
        Amount, Field(description="For what the provider put into its cache.", examples=[200_000])
    ]
    output_microusd: Annotated[Amount, Field(examples=[1_500_000])]


class SetOrgPrice(Input):
    model: Annotated[str, Field(min_length=1, max_length=200, examples=["gpt-5-mini"])]
    effective_from: Annotated[Moment | None, Field(description="At least a minute from now, by default just that.")] = (
        None
    )
    price: Annotated[TokenPrices | None, Field(description="Null: what the price book says again.")]

    def to_price(self) -> TokenPrice | None:
        return None if self.price is None else TokenPrice(source=_AGREED, **self.price.model_dump())


class OrgPriceOut(Output):
    """What an org pays for a model from a moment on, until the next price of that model begins."""

    id: PriceId
    object: Literal["org_price"] = "org_price"
    model: str
    effective_from: datetime
    per_tokens: int = Field(description="How many tokens the prices are for.", examples=[TOKENS])
    price: TokenPrices | None
    created_by: str = Field(examples=["key_01h455vb4pex5vsknk084sn02q"])
    created_at: datetime

    @classmethod
    def of(cls, found: OrgPrice) -> Self:
        price = found.price
        return cls(
            id=found.id,
            model=found.model,
            effective_from=found.effective_from,
            per_tokens=TOKENS,
            price=None
            if price is None
            else TokenPrices(
                input_microusd=price.input_microusd,
                cached_microusd=price.cached_microusd,
                written_microusd=price.written_microusd,
                output_microusd=price.output_microusd,
            ),
            created_by=found.created_by,
            created_at=found.created_at,
        )
