"""Requests made of the OpenAPI document: one for every route, with values that pass its validation."""

import importlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from fastapi.routing import APIRoute

from docs.generate import openapi, routers
from shared.kernel import ids
from shared.kernel.telemetry import Handler

ROOT = Path(__file__).resolve().parents[2]
type Sampler = Callable[[Mapping[str, Any]], Any]
# Routes that need no API key, each with its reason.
PUBLIC = {
    ("GET", "/v1/health"): "tells nothing of any tenant",
    ("POST", "/v1/sandboxes/register"): "has a one-time token of its own",
}


@dataclass(frozen=True, slots=True)
class Route:
    method: str
    path: str
    scope: str | None
    operation: Mapping[str, Any]

    def __str__(self) -> str:
        return f"{self.method} {self.path}"

    @property
    def parameters(self) -> list[str]:
        """The names of the parameters in the path."""
        return re.findall(r"{(\w+)}", self.path)

    def url(self, values: Mapping[str, str]) -> str:
        """The path with these values; whatever has none gets an id that nothing has."""
        return re.sub(r"{(\w+)}", lambda found: values.get(found[1]) or _unused(found[1]), self.path)

    def body(self) -> Any:
        """A body that passes validation, None where the route takes none."""
        content = self.operation.get("requestBody", {}).get("content", {})
        return _sample(content["application/json"]["schema"]) if "application/json" in content else None

    def handler(self) -> Handler:
        return _handlers()[self.method, self.path]


@cache
def _document() -> dict[str, Any]:
    return openapi()


def routes() -> list[Route]:
    """Every route of the API."""
    return [
        Route(
            method=method.upper(),
            path=path,
            scope=operation["security"][0]["apiKey"][0] if operation.get("security") else None,
            operation=operation,
        )
        for path, operations in _document()["paths"].items()
        for method, operation in operations.items()
    ]


def secured() -> list[Route]:
    return [route for route in routes() if route.scope is not None]


@cache
def _handlers() -> dict[tuple[str, str], Handler]:
    found: dict[tuple[str, str], Handler] = {}
    for name, router in routers().items():
        handler = importlib.import_module(f"functions.api.{name}").handler
        for route in router.routes:
            assert isinstance(route, APIRoute)
            path = re.sub(r":path}", "}", route.path)
            found |= {(method, path): handler for method in route.methods or ()}
    return found


def _unused(parameter: str) -> str:
    prefixes = {"agent_id": "agent", "run_id": "run", "sandbox_id": "sbx", "command_id": "cmd", "key_id": "key"}
    prefixes |= {"memory_id": "mem", "org_id": "org"}
    return ids.show(prefixes[parameter], ids.new()) if parameter in prefixes else "x"


def _sample(schema: Mapping[str, Any]) -> Any:
    """A value of this schema: its example where it has one, else the least that is required."""
    if "$ref" in schema:
        return _sample(_document()["components"]["schemas"][schema["$ref"].rsplit("/", 1)[-1]])
    if schema.get("examples"):
        return schema["examples"][0]
    if "default" in schema:
        return schema["default"]
    if "enum" in schema or "const" in schema:
        return schema.get("enum", [schema.get("const")])[0]
    for choice in ("anyOf", "oneOf"):
        if choice in schema:
            return _sample(schema[choice][0])
    sample: Sampler = _SAMPLES.get(str(schema.get("type")), _sample_text)
    return sample(schema)


def _sample_object(schema: Mapping[str, Any]) -> dict[str, Any]:
    required = schema.get("required", ())
    return {
        name: _sample(each)
        for name, each in schema.get("properties", {}).items()
        if name in required or each.get("examples")
    }


def _sample_text(schema: Mapping[str, Any]) -> str:
    return "x" * int(schema.get("minLength", 1))


_SAMPLES: dict[str, Sampler] = {
    "object": _sample_object,
    "array": lambda schema: [_sample(schema["items"])] * schema.get("minItems", 0),
    "integer": lambda schema: schema.get("minimum", 1),
    "number": lambda schema: schema.get("minimum", 0.5),
    "boolean": lambda _: False,
}


def mentions(value: Any, needles: list[str]) -> Iterator[str]:
    """Those of the needles that occur anywhere in a JSON value."""
    text = json.dumps(value)
    return (needle for needle in needles if needle in text)


__all__ = ["PUBLIC", "Route", "mentions", "routes", "secured"]
