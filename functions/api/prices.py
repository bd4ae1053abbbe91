"""HTTP API of the price book: what things cost, for everybody to read."""

from typing import Annotated

from fastapi import Path, Query

from shared.billing import service
from shared.billing.price_book_schemas import ModelPriceOut, PriceBookOut
from shared.kernel import clock
from shared.kernel.fields import Moment
from shared.kernel.http import lambda_handler
from shared.kernel.routing import Router

router = Router(prefix="/v1/price-book", tags=["prices"])
type At = Annotated[Moment | None, Query(description="The prices of this moment. Default: now.")]


@router.get("")
def get_price_book(at: At = None) -> PriceBookOut:
    version = service.prices_at(at or clock.now())
    return PriceBookOut.of(version, until=service.prices_until(version))


@router.get("/models/{model}")
def get_model_price(model: Annotated[str, Path(max_length=200)], at: At = None) -> ModelPriceOut:
    return ModelPriceOut.of(model, service.model_price(model, at=at or clock.now()))


handler = lambda_handler(router)
