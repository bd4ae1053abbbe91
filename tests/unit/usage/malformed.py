"""Messages of metered usage as they lie on the queue: good ones, and every way to be bad."""

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from shared.kernel import clock, ids


def event(source: str, quantity: int = 1_000_000, kind: str = "tokens_input", **changes: Any) -> dict[str, Any]:
    """A measurement that costs 250,000 micro-dollars."""
    moment = (clock.now() - timedelta(minutes=1)).isoformat()
    told = {"kind": kind, "quantity": quantity, "source_id": source, "occurred_at": moment}
    return told | {"dimensions": {"model": "gpt-5-mini"}} | changes


def message(org_id: UUID, events: Sequence[Mapping[str, Any]]) -> str:
    return json.dumps({"org_id": ids.show("org", org_id), "events": events})


def _with(**changes: Any) -> Callable[[UUID], str]:
    return lambda org_id: message(org_id, [event("bad") | changes])


def _raw(text: str) -> Callable[[UUID], str]:
    """A message whose source is this text within JSON."""
    return lambda org_id: message(org_id, [event("SOURCE")]).replace("SOURCE", text)


MALFORMED: dict[str, Callable[[UUID], str]] = {
    "no json": lambda _: "{",
    "nothing": lambda _: "",
    "a list": lambda _: "[]",
    "no org": lambda _: json.dumps({"events": [event("bad")]}),
    "bad org": lambda _: json.dumps({"org_id": "org_1", "events": [event("bad")]}),
    "unknown field": lambda org_id: message(org_id, [event("bad")])[:-1] + ', "cost": 1}',
    "no events": lambda org_id: message(org_id, []),
    "too many events": lambda org_id: message(org_id, [event(f"bad{n}") for n in range(501)]),
    "unknown kind": _with(kind="happiness"),
    "negative": _with(quantity=-1),
    "a float": _with(quantity=1.0),
    "a text": _with(quantity="1"),
    "a truth": _with(quantity=True),
    "beyond bigint": _with(quantity=2**63),
    "far beyond bigint": _with(quantity=10**30),
    "deep dimensions": _with(dimensions={"model": {"name": "gpt-5-mini"}}),
    "numeric dimensions": _with(dimensions={"model": 5}),
    "long dimension": _with(dimensions={"model": "gpt-5-mini", "note": "x" * 201}),
    "many dimensions": _with(dimensions={"model": "gpt-5-mini"} | {f"d{n}": "x" for n in range(16)}),
    "dimension named badly": _with(dimensions={"model": "gpt-5-mini", "A b": "x"}),
    "empty source": _with(source_id=""),
    "long source": _with(source_id="x" * 201),
    "nul": _raw(r"\u0000"),
    "nul in a dimension": _with(dimensions={"model": "gpt-5-mini", "note": "\x00"}),
    "lone surrogate": _raw(r"\ud800"),
    "no moment": _with(occurred_at=None),
    "a moment without a zone": _with(occurred_at="2026-11-21T12:00:00"),
    "ahead": lambda org_id: _with(occurred_at=(clock.now() + timedelta(minutes=6)).isoformat())(org_id),
    "too old": lambda org_id: _with(occurred_at=(clock.now() - timedelta(days=36)).isoformat())(org_id),
    "before all time": _with(occurred_at="0001-01-01T00:00:00+14:00"),
    "after all time": _with(occurred_at="9999-12-31T23:59:59-14:00"),
}
