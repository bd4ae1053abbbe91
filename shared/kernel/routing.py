"""A router whose functions run where they are called: a Lambda function answers one request at a time."""

from collections.abc import Callable
from functools import wraps
from inspect import iscoroutinefunction
from typing import Any

from fastapi import APIRouter


class Router(APIRouter):
    """FastAPI's router, but plain `def` routes run on the event loop instead of in a worker thread.

    Nothing else waits for that loop, so a thread could overlap with nothing; the hops to one and back, and starting it
    anew for each event, cost as much as the rest of the request.
    """

    def add_api_route(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        super().add_api_route(path, endpoint if iscoroutinefunction(endpoint) else _on_the_loop(endpoint), **options)


def _on_the_loop(endpoint: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(endpoint)
    async def call(*arguments: Any, **values: Any) -> Any:
        return endpoint(*arguments, **values)

    return call
