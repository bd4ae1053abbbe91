"""Reads `price_book.json`: whatever is wrong in it is refused at load, with the place where it stands."""

import json
from collections.abc import Set as AbstractSet
from datetime import UTC, datetime
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

from shared.billing.prices import PriceBook, PriceVersion, Rate, SandboxPrice, TokenPrice

# $10,000 for a unit: a price above is a slip, and below every sum is exact.
_MOST = 10_000_000_000
_SANDBOX = ("vcpu_hour_microusd", "gb_hour_microusd")
_MODEL = ("input_microusd", "cached_microusd", "output_microusd")
_RATES = ("storage_gb_hour", "call_minute", "memory_operation", "api_call")


class BadPriceBook(ValueError):
    """The price book that a release carries is wrong: nothing may be sold by it."""


@cache
def book() -> PriceBook:
    """Return the book that this release carries."""
    return read(Path(__file__).with_name("price_book.json").read_text())


def read(text: str) -> PriceBook:
    """Return the book of a JSON text; raise `BadPriceBook`."""
    try:
        written = json.loads(text, object_pairs_hook=_without_duplicates)
    except json.JSONDecodeError as error:
        raise BadPriceBook(f"price book: no JSON: {error}") from error
    found = _fields(written, "price book", {"versions"}, optional={"about"})["versions"]
    if not isinstance(found, list) or not found:
        raise BadPriceBook("versions: expected a list with at least one version")
    versions = [_version(version, f"versions[{index}]") for index, version in enumerate(found)]
    for index, (before, after) in enumerate(pairwise(versions), 1):
        _follows(before, after, f"versions[{index}]")
    return PriceBook(tuple(reversed(versions)))


def _version(found: object, where: str) -> PriceVersion:
    known = {"effective_from", "sandbox", "models", *_RATES}
    version = _fields(found, where, known, optional={"withdrawn"})
    models = version["models"]
    if not isinstance(models, dict) or not models or not all(models):
        raise BadPriceBook(f"{where}.models: expected an object with the prices of each model by its name")
    withdrawn = version.get("withdrawn", [])
    if not isinstance(withdrawn, list) or not all(isinstance(name, str) for name in withdrawn):
        raise BadPriceBook(f"{where}.withdrawn: expected a list of models' names")
    return PriceVersion(
        effective_from=_moment(version["effective_from"], f"{where}.effective_from"),
        sandbox=SandboxPrice(**_prices(version["sandbox"], f"{where}.sandbox", _SANDBOX)),
        models={name: _model(prices, f"{where}.models.{name}") for name, prices in models.items()},
        withdrawn=frozenset(withdrawn),
        **{name: Rate(**_prices(version[name], f"{where}.{name}", ("microusd",))) for name in _RATES},
    )


def _model(found: object, where: str) -> TokenPrice:
    fields = _prices(found, where, _MODEL, optional={"family", "written_microusd"})
    if not isinstance(family := fields.get("family", ""), str):
        raise BadPriceBook(f"{where}.family: expected the name that its models share, found {family!r}")
    model = TokenPrice(**fields)
    if model.cached_microusd > model.input_microusd:
        raise BadPriceBook(f"{where}.cached_microusd: input from the cache can't cost more than other input")
    return model


def _prices(
    found: object, where: str, names: tuple[str, ...], *, optional: AbstractSet[str] = frozenset()
) -> dict[str, Any]:
    """Return these prices and their `source`."""
    fields = _fields(found, where, {*names, "source"}, optional=optional)
    for name in (name for name in fields if name.endswith("microusd")):
        amount = fields[name]
        # A bool is an int to Python, and a float isn't money.
        if type(amount) is not int or not 0 <= amount <= _MOST:
            raise BadPriceBook(
                f"{where}.{name}: expected a whole number of micro-dollars from 0 to {_MOST}, found {amount!r}"
            )
    source = fields["source"]
    if not isinstance(source, str) or not source.startswith(("https://", "illustrative")):
        raise BadPriceBook(f"{where}.source: expected an https address, or `illustrative` and why, found {source!r}")
    return fields


def _follows(before: PriceVersion, after: PriceVersion, where: str) -> None:
    if after.effective_from <= before.effective_from:
        raise BadPriceBook(
            f"{where}.effective_from: expected a moment later than the version before, which is in force from "
            f"{before.effective_from.isoformat()}; found {after.effective_from.isoformat()}"
        )
    if after.withdrawn != (gone := before.models.keys() - after.models.keys()):
        raise BadPriceBook(
            f"{where}: it leaves out the models {sorted(gone)} and withdraws {sorted(after.withdrawn)}: each "
            "version is the whole book, and a model that ends is named in `withdrawn`"
        )


def _moment(found: object, where: str) -> datetime:
    try:
        moment = datetime.fromisoformat(found) if isinstance(found, str) else None
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None or moment.utcoffset():
        raise BadPriceBook(f"{where}: expected a moment in UTC such as 2026-01-01T00:00:00Z, found {found!r}")
    return moment.astimezone(UTC)


def _fields(
    found: object, where: str, names: AbstractSet[str], *, optional: AbstractSet[str] = frozenset()
) -> dict[str, Any]:
    if not isinstance(found, dict):
        raise BadPriceBook(f"{where}: expected an object, found {found!r}")
    if missing := names - found.keys():
        raise BadPriceBook(f"{where}: lacks {', '.join(sorted(missing))}")
    if unknown := found.keys() - names - optional:
        raise BadPriceBook(f"{where}: has unknown fields: {', '.join(sorted(unknown))}")
    return found


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = sorted({name for name, _ in pairs if sum(name == other for other, _ in pairs) > 1})
        raise BadPriceBook(f"price book: in one object are written twice: {', '.join(twice)}")
    return found
