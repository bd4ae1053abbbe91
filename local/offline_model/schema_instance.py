"""Makes a minimal JSON value that a JSON Schema accepts: the offline model's structured answers.

It covers what OpenAI's structured outputs allow (types, required, enum, const, bounds, formats, anyOf, oneOf,
allOf, $ref) except `pattern`; a schema it cannot satisfy is refused rather than answered wrongly.
"""

import json
import math
from typing import Any

from local.offline_model.errors import ApiError

DEPTH_LIMIT = 32
VISITS_LIMIT = 20_000

_FORMATS = {
    "date-time": "1970-01-01T00:00:00Z",
    "date": "1970-01-01",
    "time": "00:00:00Z",
    "duration": "PT0S",
    "email": "offline@example.com",
    "hostname": "example.com",
    "ipv4": "127.0.0.1",
    "ipv6": "::1",
    "uri": "https://example.com",
    "uuid": "00000000-0000-0000-0000-000000000000",
}


def minimal_instance(schema: dict[str, Any]) -> Any:
    """Return a minimal value for the schema; raise `ApiError` where this module can make none."""
    # Going deeper step by step finds the shallowest value of a recursive schema before its endless branches.
    visits_left = VISITS_LIMIT
    for depth in range(1, DEPTH_LIMIT):
        maker = _Maker(schema, visits_left)
        try:
            return maker.instance(schema, depth)
        except _TooDeepError:
            visits_left = maker.visits_left
        except (AttributeError, TypeError, ValueError) as error:
            raise _refusal(f"it is malformed ({error})") from error
    raise _refusal("it requires itself without end, or is nested too deeply")


class _TooDeepError(Exception):
    """There may be a value, but a deeper one than was asked for."""


class _Maker:
    """Makes one value within a depth and a number of visited schemas."""

    def __init__(self, root: dict[str, Any], visits: int) -> None:
        self._root = root
        self.visits_left = visits

    def instance(self, schema: Any, depth: int) -> Any:
        """Return a value at most `depth` levels deep."""
        if schema is True or schema == {}:
            return None
        if not isinstance(schema, dict):
            raise _refusal(f"{schema!r} accepts nothing")
        schema = self._resolved(schema, depth)
        for combinator in ("anyOf", "oneOf"):
            if combinator in schema:
                return self._shortest(schema, combinator, depth)
        if "const" in schema:
            return schema["const"]
        if schema.get("enum"):
            return schema["enum"][0]
        return self._of_type(_type(schema), schema, depth)

    def _of_type(self, kind: str, schema: dict[str, Any], depth: int) -> Any:
        match kind:
            case "object":
                properties = schema.get("properties", {})
                return {name: self.instance(properties.get(name, {}), depth - 1) for name in schema.get("required", [])}
            case "array":
                size = schema.get("minItems", 0)
                items = [*schema.get("prefixItems", []), *[schema.get("items", {})] * size][:size]
                return [self.instance(item, depth - 1) for item in items]
            case "string":
                return _string(schema)
            case "integer" | "number":
                return _number(schema, whole=kind == "integer")
            case "boolean":
                return False
            case "null":
                return None
        raise _refusal(f"type {kind!r} is unknown")

    def _resolved(self, schema: dict[str, Any], depth: int) -> dict[str, Any]:
        """Put `$ref` and `allOf` in place, so that what is left has neither."""
        self.visits_left -= 1
        if self.visits_left < 0:
            raise _refusal("it is too large, or requires itself without end")
        if depth < 0:
            raise _TooDeepError
        parts = list(schema.get("allOf", []))
        if "$ref" in schema:
            parts.append(_pointed_at(schema["$ref"], self._root))
        merged = {key: value for key, value in schema.items() if key not in {"allOf", "$ref"}}
        for part in parts:
            resolved = self._resolved(part, depth - 1)
            merged = {
                **resolved,
                **merged,
                "properties": {**resolved.get("properties", {}), **merged.get("properties", {})},
                "required": [*dict.fromkeys([*resolved.get("required", []), *merged.get("required", [])])],
            }
        return merged

    def _shortest(self, schema: dict[str, Any], combinator: str, depth: int) -> Any:
        """Answer the shortest branch; a branch that cannot be made is passed over."""
        rest = {key: value for key, value in schema.items() if key != combinator}
        made: list[Any] = []
        reason: Exception = _refusal(f"{combinator} is empty")
        for branch in schema[combinator]:
            try:
                made.append(self.instance({"allOf": [branch], **rest}, depth))
            except (ApiError, _TooDeepError) as error:
                reason = error
        if not made:
            raise reason
        return min(made, key=lambda value: len(json.dumps(value)))


def _pointed_at(reference: str, root: dict[str, Any]) -> dict[str, Any]:
    if not reference.startswith("#"):
        raise _refusal(f"$ref {reference!r} points outside the schema")
    target: Any = root
    for part in reference.removeprefix("#").split("/")[1:]:
        name = part.replace("~1", "/").replace("~0", "~")
        if not isinstance(target, dict) or name not in target:
            raise _refusal(f"$ref {reference!r} points at nothing")
        target = target[name]
    if not isinstance(target, dict):
        raise _refusal(f"$ref {reference!r} does not point at a schema")
    return target


def _type(schema: dict[str, Any]) -> str:
    kind = schema.get("type")
    if isinstance(kind, list):
        return "null" if "null" in kind else str(kind[0])
    if kind is None:
        # `_resolved` adds these two keys, empty, so only their content tells.
        return "object" if schema.get("properties") or schema.get("required") else "null"
    return str(kind)


def _string(schema: dict[str, Any]) -> str:
    if "pattern" in schema:
        raise _refusal("the offline model cannot make text for a `pattern`")
    return str(_FORMATS.get(schema.get("format", ""), "")).ljust(schema.get("minLength", 0), "x")


def _number(schema: dict[str, Any], *, whole: bool) -> float:
    """Return the number nearest to zero within the bounds."""
    step = schema.get("multipleOf", 1 if whole else None)
    low = max(schema.get("minimum", -math.inf), schema.get("exclusiveMinimum", -math.inf))
    high = min(schema.get("maximum", math.inf), schema.get("exclusiveMaximum", math.inf))
    candidates: list[float] = [0, low, high, (low + high) / 2 if math.isfinite(low + high) else 0]
    gap = step or 1
    for bound in (low, high):
        if math.isfinite(bound):
            near = math.floor(bound / gap) * gap
            candidates += [near - gap, near, near + gap]
    for candidate in sorted(candidates, key=abs):
        if math.isfinite(candidate) and _fits(candidate, schema, step):
            return int(candidate) if candidate == int(candidate) else candidate
    raise _refusal("no number lies within its bounds")


def _fits(value: float, schema: dict[str, Any], step: float | None) -> bool:
    return (
        value >= schema.get("minimum", -math.inf)
        and value > schema.get("exclusiveMinimum", -math.inf)
        and value <= schema.get("maximum", math.inf)
        and value < schema.get("exclusiveMaximum", math.inf)
        and (step is None or math.isclose(value / step, round(value / step), abs_tol=1e-9))
    )


def _refusal(reason: str) -> ApiError:
    message = f"The offline model can't make a value for this JSON schema: {reason}."
    return ApiError(400, message, code="unsupported_schema")
