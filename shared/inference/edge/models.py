"""GET /v1/models, and one of them by its name."""

from urllib.parse import unquote

from shared.inference.edge.exchange import Exchange
from shared.inference.errors import ModelNotFound

_PREFIX = "/v1/models/"


async def list_all(exchange: Exchange) -> None:
    """Answer with every model, route and own provider's model that may be asked by name."""
    found = await exchange.gateway.models(exchange.caller)
    await exchange.answer({"object": "list", "data": found})


async def get_one(exchange: Exchange) -> None:
    """Answer with the model of this name; raise `ModelNotFound`."""
    name = unquote(exchange.scope["path"].removeprefix(_PREFIX))
    for model in await exchange.gateway.models(exchange.caller):
        if model["id"] == name:
            await exchange.answer(model)
            return
    raise ModelNotFound(f"No model named {name[:100]!r} is offered; GET /v1/models tells which are.", param="model")
