"""Requests made of the OpenAPI document: one for every route, with values that pass its validation."""

import copy
import importlib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from fastapi.routing import APIRoute

from docs.generate import openapi, routers
from shared.kernel import ids
from shared.kernel.telemetry import Handler

type Sampler = Callable[[Mapping[str, Any]], Any]
# How the document writes down an id: the prefix says whose.
_ID = re.compile(r"^\^([a-z]+)_\[0-7\]")
# Routes that need no caller, each with its reason.
_PROVES_ITSELF = "whoever signs in has nothing to show yet"
PUBLIC = {
    ("GET", "/v1/health"): "tells nothing of any tenant",
    ("GET", "/v1/plans"): "what is on offer is for everybody",
    ("GET", "/v1/price-book"): "what is on offer is for everybody",
    ("GET", "/v1/price-book/models/{model}"): "what is on offer is for everybody",
    ("POST", "/v1/sandboxes/register"): "has a one-time token of its own",
    ("GET", "/.well-known/jwks.json"): "public keys",
    ("GET", "/.well-known/openid-configuration"): "tells nothing of any tenant",
    ("POST", "/v1/auth/register"): _PROVES_ITSELF,
    ("POST", "/v1/auth/confirm-email"): _PROVES_ITSELF,
    ("POST", "/v1/auth/login"): _PROVES_ITSELF,
    ("POST", "/v1/auth/refresh"): _PROVES_ITSELF,
    ("POST", "/v1/auth/logout"): _PROVES_ITSELF,
    ("POST", "/v1/auth/forgot-password"): _PROVES_ITSELF,
    ("POST", "/v1/auth/reset-password"): _PROVES_ITSELF,
    ("GET", "/v1/auth/oauth/{provider}/start"): _PROVES_ITSELF,
    ("GET", "/v1/auth/oauth/{provider}/callback"): _PROVES_ITSELF,
    ("GET", "/v1/auth/sso/{org_slug}/start"): _PROVES_ITSELF,
    ("GET", "/v1/auth/sso/{org_id}/callback"): _PROVES_ITSELF,
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
    def id_parameters(self) -> dict[str, str]:
        """The prefix of each parameter of the path that is an id, by its name."""
        return dict(self._ids_in("path"))

    @property
    def id_queries(self) -> dict[str, str]:
        """The prefix of each parameter of the query that is an id, by its name; a cursor is one too."""
        return dict(self._ids_in("query"))

    def _ids_in(self, place: str) -> Iterator[tuple[str, str]]:
        for parameter in self.operation.get("parameters", ()):
            if parameter["in"] == place and (prefix := _id_prefix(parameter["schema"])):
                yield parameter["name"], prefix

    def url(self, values: Mapping[str, str]) -> str:
        """The path with these values; an id without one is an id that nothing has."""
        prefixes = self.id_parameters

        def value(found: re.Match[str]) -> str:
            name = found[1]
            return values.get(name) or (ids.show(prefixes[name], ids.new()) if name in prefixes else "x")

        return re.sub(r"{(\w+)}", value, self.path)

    def body(self) -> Any:
        """A body that passes validation, None where the route takes none."""
        schema = self._body_schema
        return None if schema is None else _sample(schema)

    @property
    def body_ids(self) -> list[tuple[tuple[str, ...], str]]:
        """Where in the body an id may stand, with its prefix."""
        schema = self._body_schema
        return [] if schema is None else list(_ids_of(schema))

    @property
    def _body_schema(self) -> Mapping[str, Any] | None:
        content = self.operation.get("requestBody", {}).get("content", {})
        return content["application/json"]["schema"] if "application/json" in content else None

    def handler(self) -> Handler:
        return _handlers()[self.method, self.path]


@cache
def _document() -> dict[str, Any]:
    return openapi()


@cache
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


def with_value(body: Any, place: tuple[str, ...], value: str) -> Any:
    """The body with this value at one place."""
    changed = copy.deepcopy(body)
    inner = changed
    for name in place[:-1]:
        inner = inner.setdefault(name, {})
    inner[place[-1]] = value
    return changed


def _resolved(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    if "$ref" in schema:
        return _resolved(_document()["components"]["schemas"][schema["$ref"].rsplit("/", 1)[-1]])
    return schema


def _id_prefix(schema: Mapping[str, Any]) -> str | None:
    """The prefix of the id that this schema describes, None for anything else."""
    for choice in (schema, *schema.get("anyOf", ())):
        if found := _ID.match(str(_resolved(choice).get("pattern", ""))):
            return found[1]
    return None


def _ids_of(schema: Mapping[str, Any], *place: str) -> Iterator[tuple[tuple[str, ...], str]]:
    schema = _resolved(schema)
    if place and (prefix := _id_prefix(schema)):
        yield place, prefix
    for name, inner in schema.get("properties", {}).items():
        yield from _ids_of(inner, *place, name)


def _sample(schema: Mapping[str, Any]) -> Any:
    """A value of this schema: its example where it has one, else the least that is required."""
    schema = _resolved(schema)
    if schema.get("examples"):
        return copy.deepcopy(schema["examples"][0])
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
        if name in required or (_resolved(each).get("examples") and not _id_prefix(each))
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
