"""A model's name finds the tenant's route, its own provider, the platform's, or the platform's default endpoint."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from shared.billing import service as billing
from shared.billing.service import TokenPrice
from shared.inference import targets
from shared.inference.calls import Operation
from shared.inference.config import OrgConfig, OrgPrice, ProviderAccount, ProviderKind
from shared.inference.errors import ModelNotFound
from shared.inference.policy import Candidate, Route
from shared.inference.targets import OWN_KEY, UNLISTED_MODEL, Resolved
from shared.kernel import clock, settings
from tests.waiting import takes_less_than

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
OPENAI = ProviderAccount(name="openai", kind=ProviderKind.OPENAI, models=frozenset({"gpt-4o", "gpt-9-unpriced"}))
BACKUP = ProviderAccount(name="backup", kind=ProviderKind.OPENAI, models=frozenset({"gpt-4o", "gpt-4.1"}))
OURS = ProviderAccount(
    name="ours", kind=ProviderKind.ANTHROPIC, secret_arn="arn:ours", models=frozenset({"claude"}), own=True, owner="a"
)
CONFIG = OrgConfig(
    providers={each.name: each for each in (OPENAI, BACKUP, OURS)},
    platform=(OPENAI, BACKUP),
    routes={
        "cheap": Route(
            name="cheap", candidates=[Candidate(model=name) for name in ("gpt-4o-mini", "ours/claude", "x")]
        ),
        "gone": Route(name="gone", candidates=(Candidate(model="x"),)),
    },
)
CHEAP = TokenPrice(input_microusd=1, cached_microusd=1, output_microusd=1, source="https://example.com/agreed")


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("RUNYARD_MODEL_BASE_URL", "https://models.example.com/v1")
    monkeypatch.setenv("RUNYARD_MODEL_SECRET_ARN", "arn:default")
    monkeypatch.setenv("RUNYARD_MODEL", "house-model")
    monkeypatch.setenv("RUNYARD_EMBEDDING_MODEL", "text-embedding-3-small")
    monkeypatch.setattr(clock, "now", lambda: NOW)
    settings.forget()
    yield
    settings.forget()


def resolve(name: str | None, config: OrgConfig = CONFIG, operation: Operation = Operation.CHAT) -> Resolved:
    return targets.resolve(config, name, operation=operation)


def book(model: str) -> TokenPrice:
    return billing.token_price(model, at=NOW)


@pytest.mark.parametrize(
    ("name", "provider", "model", "shown_as"),
    [
        ("gpt-4o", "openai", "gpt-4o", "gpt-4o"),
        ("gpt-4.1", "backup", "gpt-4.1", "gpt-4.1"),
        ("backup/gpt-4o", "backup", "gpt-4o", "gpt-4o"),
        ("gpt-5", "models.example.com", "gpt-5", "gpt-5"),
        ("ours/claude", "ours", "claude", "ours/claude"),
        ("ours/meta/llama", "ours", "meta/llama", "ours/meta/llama"),
        ("claude", "ours", "claude", "ours/claude"),
        ("house-model", "models.example.com", "house-model", "house-model"),
        (None, "models.example.com", "house-model", "house-model"),
    ],
    ids=[
        "listed by the first of the platform's",
        "listed by the second",
        "of a provider that is named",
        "listed by none",
        "of its own provider",
        "whose name has a slash",
        "plain, listed by its own provider",
        "the default one by name",
        "the default one",
    ],
)
def test_a_models_name_finds_its_provider(name: str | None, provider: str, model: str, shown_as: str) -> None:
    found = resolve(name)
    (target,) = found.targets.values()
    assert (target.account.name, target.model, target.shown_as) == (provider, model, shown_as)
    assert not found.named
    assert [each.model for each in found.route.candidates] == list(found.targets) == [name or "house-model"]


@pytest.mark.parametrize(
    "name",
    ["gpt-9-unpriced", "openai/gpt-9-unpriced", "nobody/gpt-4o", "ours/", "/gpt-4o", "nothing", UNLISTED_MODEL, "gone"],
)
def test_what_nobody_offers_or_has_no_price_is_not_found(name: str) -> None:
    with pytest.raises(ModelNotFound):
        resolve(name)


def test_a_route_comes_before_a_model_and_leaves_out_what_is_offered_no_more() -> None:
    found = resolve("cheap")
    assert found.named
    assert list(found.targets) == ["gpt-4o-mini", "ours/claude"]
    assert found.route is CONFIG.routes["cheap"]


def test_what_one_route_or_model_said_is_no_other_ones_answer() -> None:
    names = [resolve(name).cache_name for name in ("cheap", "gpt-4o", "backup/gpt-4o", "gpt-5", "claude")]
    config = OrgConfig(
        routes={"cheap": Route(name="cheap", candidates=(Candidate(model="gpt-5"),))}, platform=CONFIG.platform
    )
    assert len({*names, resolve("cheap", config).cache_name}) == 6
    assert resolve(None).cache_name == resolve("house-model").cache_name


def test_without_a_name_texts_are_embedded_by_the_default_model_for_it() -> None:
    assert list(resolve(None, operation=Operation.EMBEDDINGS).targets) == ["text-embedding-3-small"]


def org_prices(*prices: tuple[str, timedelta, TokenPrice | None]) -> OrgConfig:
    return OrgConfig(
        providers=CONFIG.providers,
        platform=CONFIG.platform,
        prices=tuple(OrgPrice(model=model, effective_from=NOW + since, price=price) for model, since, price in prices),
    )


HOUR = timedelta(hours=1)


@pytest.mark.parametrize(
    ("name", "prices", "expected"),
    [
        ("gpt-4o", (), "gpt-4o"),
        ("house-model", (), UNLISTED_MODEL),
        ("gpt-4o", [("gpt-4o", -HOUR, CHEAP)], CHEAP),
        ("gpt-4o", [("gpt-4o", timedelta(0), CHEAP)], CHEAP),
        ("gpt-4o", [("gpt-4o", HOUR, CHEAP)], "gpt-4o"),
        ("gpt-4o", [("gpt-4o", -HOUR, None), ("gpt-4o", -2 * HOUR, CHEAP)], "gpt-4o"),
        ("gpt-4o", [("gpt-4o", HOUR, None), ("gpt-4o", -2 * HOUR, CHEAP)], CHEAP),
        ("gpt-5", [("gpt-4o", -HOUR, CHEAP)], "gpt-5"),
        ("gpt-9-unpriced", [("gpt-9-unpriced", -HOUR, CHEAP)], CHEAP),
        ("ours/claude", [("claude", -HOUR, CHEAP)], OWN_KEY),
        ("ours/gpt-4o", (), OWN_KEY),
    ],
    ids=[
        "the book's",
        "the default model's that the book doesn't list",
        "its own",
        "from this very moment",
        "not yet its own",
        "the book's again",
        "its own for another hour",
        "of another model",
        "of one that the book doesn't list",
        "none at its own provider",
        "none at its own provider for what the book lists",
    ],
)
def test_a_tenant_pays_its_own_price_then_the_books_and_none_at_its_own_provider(
    name: str, prices: Any, expected: TokenPrice | str
) -> None:
    (target,) = resolve(name, org_prices(*prices)).targets.values()
    assert target.price == (book(expected) if isinstance(expected, str) else expected)


def test_a_key_of_its_own_costs_nothing() -> None:
    assert OWN_KEY.most(input_tokens=10**6, output_tokens=10**6) == 0


def test_nobodys_failures_count_for_another_org_or_for_the_platform() -> None:
    def keyless(owner: str) -> OrgConfig:
        account = ProviderAccount(name="openai", kind=ProviderKind.OPENAI, own=True, owner=owner)
        return OrgConfig(providers={"openai": account}, platform=(OPENAI,))

    configs = [keyless("a"), keyless("b"), CONFIG]
    keys = [next(iter(resolve("openai/gpt-4o", config).targets.values())).key for config in configs]
    assert len(set(keys)) == 3
    assert next(iter(resolve("gpt-4o").targets.values())).key == keys[2]


def test_has_price_and_default_target() -> None:
    assert targets.has_price(CONFIG, "gpt-4o")
    assert not targets.has_price(CONFIG, "gpt-9-unpriced")
    assert targets.default_target() == resolve(None).targets["house-model"]


def test_a_plain_model_is_resolved_in_no_time() -> None:
    def took_us() -> float:
        began = time.perf_counter()
        for _ in range(200):
            resolve("gpt-5")
        return (time.perf_counter() - began) / 200 * 1e6

    # The goal is 20; twice that leaves room for a slow machine.
    assert takes_less_than(40, took_us, tries=20)
