"""The price book's file: what has taken effect stays as it is, and mistakes are refused at load."""

import hashlib
import json
from collections.abc import Callable
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from shared.billing import price_book, service
from shared.billing.price_book import BadPriceBook
from shared.billing.prices import ModelNotPriced, NotPriced

# The SHA-256 of each version, by when it takes effect. A version that has taken effect is never edited, because what
# was charged by it must be found in it again: add a later version instead. One that is still to come may change, in
# the book and here.
PUBLISHED = {
    "2025-01-01T00:00:00Z": "02fb6f6c67b80d6edaab8d6cfb947f10e2b87c9bf9f0b7cef4b6a45bb41aac52",
    "2026-11-22T00:00:00Z": "6e04a20625486675535067a0b513f79d472e85e97a135f610788b1179d9e6346",
}
FIRST = datetime(2026, 1, 1, tzinfo=UTC)
CHANGE = datetime(2026, 7, 1, tzinfo=UTC)
_RATE = {"microusd": 5, "source": "illustrative"}


def _book(*starts: str) -> dict[str, Any]:
    return {
        "versions": [
            {
                "effective_from": start,
                "sandbox": {"vcpu_hour_microusd": 40_000 * (index + 1), "gb_hour_microusd": 4, "source": "https://x.y"},
                "storage_gb_hour": _RATE,
                "call_minute": _RATE,
                "memory_operation": _RATE,
                "api_call": _RATE,
                "models": {
                    "m": {"input_microusd": 9, "cached_microusd": 1, "output_microusd": 9, "source": "https://x.y"}
                },
            }
            for index, start in enumerate(starts)
        ]
    }


TWO = _book("2026-01-01T00:00:00Z", "2026-07-01T00:00:00Z")


def _versions_as_written() -> dict[str, str]:
    text = Path(price_book.__file__).with_name("price_book.json").read_text()
    return {
        version["effective_from"]: hashlib.sha256(json.dumps(version, sort_keys=True).encode()).hexdigest()
        for version in json.loads(text)["versions"]
    }


def test_no_version_of_the_book_was_edited_or_removed() -> None:
    assert _versions_as_written() == PUBLISHED


def test_every_source_is_an_address_or_says_that_the_price_is_made_up() -> None:
    version = service.prices_at(FIRST)
    for model in ("runyard-offline", "runyard-offline-embed", "unlisted"):
        assert version.models[model].source.startswith("illustrative")
    assert version.call_minute.source.startswith("illustrative")
    assert version.storage_gb_hour.source.startswith("https://aws.amazon.com/")


def test_a_version_holds_from_its_date_until_the_next() -> None:
    book = price_book.read(json.dumps(TWO))
    before, after = book.at(CHANGE - timedelta(microseconds=1)), book.at(CHANGE)
    assert (before.sandbox.vcpu_hour_microusd, after.sandbox.vcpu_hour_microusd) == (40_000, 80_000)
    assert (book.until(before), book.until(after)) == (CHANGE, None)
    with pytest.raises(NotPriced):
        book.at(FIRST - timedelta(microseconds=1))


def test_input_put_into_the_cache_costs_what_is_written_or_as_other_input() -> None:
    written = deepcopy(TWO)
    written["versions"][1]["models"]["m"]["written_microusd"] = 11
    book = price_book.read(json.dumps(written))
    assert [book.at(at).tokens("m").written_microusd for at in (FIRST, CHANGE)] == [9, 11]


def test_a_model_may_be_withdrawn_and_has_its_price_for_what_was_used_before() -> None:
    written = deepcopy(TWO)
    written["versions"][1] |= {
        "models": {"n": TWO["versions"][1]["models"]["m"]},
        "withdrawn": ["m"],
    }
    book = price_book.read(json.dumps(written))
    assert book.at(CHANGE - timedelta(microseconds=1)).tokens("m").input_microusd == 9
    with pytest.raises(ModelNotPriced):
        book.at(CHANGE).tokens("m")


def _set(*path: str | int, to: object) -> Callable[[dict[str, Any]], None]:
    def change(book: dict[str, Any]) -> None:
        place: Any = book["versions"]
        for part in path[:-1]:
            place = place[part]
        place[path[-1]] = to

    return change


def _without(*path: str | int) -> Callable[[dict[str, Any]], None]:
    def change(book: dict[str, Any]) -> None:
        place: Any = book["versions"]
        for part in path[:-1]:
            place = place[part]
        del place[path[-1]]

    return change


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (_set(0, "sandbox", "gb_hour_microusd", to=0.5), r"versions\[0\].sandbox.gb_hour_microusd: .* found 0.5"),
        (_set(0, "sandbox", "gb_hour_microusd", to=4.0), "found 4.0"),
        (_set(0, "api_call", to={"microusd": "5", "source": "illustrative"}), r"api_call.microusd: .* found '5'"),
        (_set(0, "models", "m", "input_microusd", to=-1), r"versions\[0\].models.m.input_microusd: .* found -1"),
        (_set(0, "models", "m", "output_microusd", to=True), "found True"),
        (_set(0, "models", "m", "output_microusd", to=10**11), "from 0 to"),
        (_set(0, "models", "m", "cached_microusd", to=10), "can't cost more than other input"),
        (_set(0, "models", "m", "written_microusd", to=1.5), r"models.m.written_microusd: .* found 1.5"),
        (_set(0, "models", "m", "written_microusd", to=-1), r"models.m.written_microusd: .* found -1"),
        (_set(0, "models", "m", "source", to="somebody said so"), r"models.m.source: expected an https address"),
        (_set(0, "models", "m", "batch_microusd", to=1), r"models.m: has unknown fields: batch_microusd"),
        (_set(0, "models", "m", "family", to=5), "models.m.family: .* found 5"),
        (_set(0, "models", to={}), r"versions\[0\].models: expected"),
        (_set(0, "models", "", to={}), r"versions\[0\].models: expected"),
        (_set(0, "models", "m", to=7), r"versions\[0\].models.m: expected an object, found 7"),
        (_set(0, "valid_until", to="2026-07-01T00:00:00Z"), r"versions\[0\]: has unknown fields: valid_until"),
        (_without(1, "call_minute"), r"versions\[1\]: lacks call_minute"),
        (_without(1, "sandbox", "source"), r"versions\[1\].sandbox: lacks source"),
        (_set(1, "models", to={"n": TWO["versions"][0]["models"]["m"]}), r"leaves out the models \['m'\]"),
        (_set(1, "withdrawn", to=["m"]), r"leaves out the models \[\] and withdraws \['m'\]"),
        (_set(0, "withdrawn", to="m"), r"versions\[0\].withdrawn: expected a list"),
        (
            _set(1, "effective_from", to="2026-01-01T00:00:00Z"),
            r"versions\[1\].effective_from: expected a moment later",
        ),
        (
            _set(1, "effective_from", to="2025-01-01T00:00:00Z"),
            r"versions\[1\].effective_from: expected a moment later",
        ),
        (_set(1, "effective_from", to="2026-07-01"), r"versions\[1\].effective_from: expected a moment in UTC"),
        (_set(1, "effective_from", to="2026-07-01T00:00:00+02:00"), "expected a moment in UTC"),
        (_set(1, "effective_from", to="tomorrow"), "found 'tomorrow'"),
        (_set(1, "effective_from", to=1767225600), "found 1767225600"),
    ],
    ids=lambda value: value[-40:] if isinstance(value, str) else "",
)
def test_a_mistake_in_the_book_is_refused_with_its_place(change: Callable[[dict[str, Any]], None], told: str) -> None:
    written = deepcopy(TWO)
    change(written)
    with pytest.raises(BadPriceBook, match=told):
        price_book.read(json.dumps(written))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "no JSON"),
        ("[]", "expected an object"),
        ('{"versions": []}', "at least one version"),
        ('{"versions": {}}', "expected a list"),
        ('{"versions": [], "currency": "EUR"}', "unknown fields: currency"),
        ('{"versions": [{"models": {"m": {}, "m": {}}}]}', "written twice: m"),
        ('{"versions": [{"api_call": {"microusd": NaN, "source": "illustrative"}}]}', "lacks"),
    ],
    ids=["cut off", "a list", "empty", "no list", "unknown field", "a model twice", "NaN"],
)
def test_what_is_no_price_book_is_refused(text: str, told: str) -> None:
    with pytest.raises(BadPriceBook, match=told):
        price_book.read(text)
