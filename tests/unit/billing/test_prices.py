"""Prices, against figures worked out by hand."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.billing import prices, service
from shared.billing.prices import ModelNotPriced, NotPriced, SandboxPrice, TokenPrice
from shared.kernel.money import price

NOW = datetime(2026, 6, 1, tzinfo=UTC)

TWO_VERSIONS = """
{"versions": [
  {"effective_from": "2026-01-01T00:00:00Z",
   "sandbox": {"vcpu_hour_microusd": 40000, "gb_hour_microusd": 4000, "source": "test"},
   "models": {"m": {"input_microusd": 100, "cached_microusd": 10, "output_microusd": 400, "source": "test"}}},
  {"effective_from": "2026-07-01T00:00:00Z",
   "sandbox": {"vcpu_hour_microusd": 80000, "gb_hour_microusd": 8000, "source": "test"},
   "models": {"n": {"input_microusd": 200, "cached_microusd": 20, "output_microusd": 800, "source": "test"}}}
]}
"""


@pytest.mark.parametrize(
    ("model", "input_tokens", "cached_tokens", "output_tokens", "microusd"),
    [
        # 1,500 x $0.25/M = 375; 200 x $2/M = 400
        ("gpt-5-mini", 1_500, 0, 200, 775),
        # 500 x $0.25/M = 125; 1,000 cached x $0.025/M = 25; 200 x $2/M = 400
        ("gpt-5-mini", 1_500, 1_000, 200, 550),
        # 12 x $2/M = 24; 3 x $8/M = 24
        ("gpt-4.1", 12, 0, 3, 48),
        # 1,000,000 x $0.02/M
        ("text-embedding-3-small", 1_000_000, 0, 0, 20_000),
        ("runyard-offline", 0, 0, 0, 0),
    ],
)
def test_tokens_cost_what_the_price_book_says(
    model: str, input_tokens: int, cached_tokens: int, output_tokens: int, microusd: int
) -> None:
    cost = service.price_of_tokens(
        model, input_tokens=input_tokens, cached_tokens=cached_tokens, output_tokens=output_tokens, at=NOW
    )
    assert cost == microusd


@pytest.mark.parametrize(("quantity", "microusd"), [(1, 0), (2, 1), (3, 2), (5, 2), (7, 4), (9, 4)])
def test_half_a_microdollar_goes_to_the_even_neighbour(quantity: int, microusd: int) -> None:
    assert price(quantity, microusd=1, per=2) == microusd


def test_a_cost_is_told_by_kind_of_token_and_the_kinds_add_up() -> None:
    cost = service.token_price("gpt-5-mini", at=NOW).cost(input_tokens=1_500, cached_tokens=1_000, output_tokens=200)
    assert (cost.input_microusd, cost.cached_microusd, cost.output_microusd) == (125, 25, 400)
    assert cost.total_microusd == 550


counts = st.integers(0, 10_000_000)
rates = st.integers(0, 50_000_000)


@given(rates, rates, rates, counts, counts, counts, counts, counts)
def test_a_call_never_costs_more_than_its_worst_case(
    rate: int, discount: int, output_rate: int, tokens: int, more: int, cached: int, out: int, more_out: int
) -> None:
    model = TokenPrice(rate, min(discount, rate), output_rate, "test")
    worst = model.cost(input_tokens=tokens + more, cached_tokens=0, output_tokens=out + more_out)
    real = model.cost(input_tokens=tokens, cached_tokens=min(cached, tokens), output_tokens=out)
    assert 0 <= real.total_microusd <= worst.total_microusd
    assert real.input_microusd >= 0


@pytest.mark.parametrize("counts", [(1, 2, 0), (1, -1, 0), (-1, -1, 0), (1, 0, -1)])
def test_impossible_token_counts_are_refused(counts: tuple[int, int, int]) -> None:
    input_tokens, cached_tokens, output_tokens = counts
    with pytest.raises(ValueError, match="impossible token counts"):
        TokenPrice(1, 1, 1, "test").cost(
            input_tokens=input_tokens, cached_tokens=cached_tokens, output_tokens=output_tokens
        )


def test_a_sandbox_costs_its_share_of_a_vcpu_and_of_memory_by_the_second() -> None:
    # A quarter of a vCPU: 32,380/4 = 8,095; half a GB: 3,560/2 = 1,780; in all 9,875 an hour.
    hour = service.price_of_sandbox(cpu_units=256, memory_mib=512, seconds=3_600, at=NOW)
    minute = service.price_of_sandbox(cpu_units=256, memory_mib=512, seconds=60, at=NOW)
    assert (hour, minute) == (9_875, 165)  # 164.58
    assert service.price_of_sandbox(cpu_units=256, memory_mib=512, seconds=0, at=NOW) == 0


def test_a_sandbox_s_price_is_rounded_once() -> None:
    # 0.25 + 0.25 of a micro-dollar make half of one, which goes to 0; 0.75 + 0.75 make 1.5, which goes to 2.
    rate = SandboxPrice(vcpu_hour_microusd=1, gb_hour_microusd=1, source="test")
    assert rate.cost(cpu_units=1024, memory_mib=1024, seconds=900) == 0
    assert rate.cost(cpu_units=1024, memory_mib=1024, seconds=2_700) == 2


def test_a_version_of_the_book_holds_from_its_date_until_the_next() -> None:
    book = prices.read(TWO_VERSIONS)
    change = datetime(2026, 7, 1, tzinfo=UTC)
    assert book.at(change - timedelta(microseconds=1)).sandbox.vcpu_hour_microusd == 40_000
    assert book.at(change).sandbox.vcpu_hour_microusd == 80_000
    assert book.tokens("m", at=NOW).output_microusd == 400
    with pytest.raises(ModelNotPriced):
        book.tokens("m", at=change)


def test_there_are_no_prices_before_the_first_version() -> None:
    with pytest.raises(NotPriced):
        prices.read(TWO_VERSIONS).at(datetime(2025, 12, 31, tzinfo=UTC))


def test_a_model_without_a_price_is_named_in_the_message() -> None:
    with pytest.raises(ModelNotPriced, match="no-such-model") as refused:
        service.token_price("no-such-model", at=NOW)
    assert (refused.value.code, refused.value.param) == ("model_not_priced", "model")


def test_every_price_in_the_book_is_a_whole_number_with_its_source() -> None:
    for version in prices.book().versions:
        rates = [version.sandbox.vcpu_hour_microusd, version.sandbox.gb_hour_microusd]
        for model in version.models.values():
            rates += [model.input_microusd, model.cached_microusd, model.output_microusd]
            assert model.cached_microusd <= model.input_microusd
        assert all(type(rate) is int and rate >= 0 for rate in rates)
        sources = [version.sandbox.source, *(model.source for model in version.models.values())]
        assert all(source.startswith(("https://", "illustrative")) for source in sources)


def test_the_prices_of_the_offline_models_say_that_they_are_made_up() -> None:
    for model in ("runyard-offline", "runyard-offline-embed"):
        assert service.token_price(model, at=NOW).source.startswith("illustrative")
