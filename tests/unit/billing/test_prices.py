"""The arithmetic of prices: rounding, worst cases, and what can't be priced."""

from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.billing import service
from shared.billing.prices import CannotPrice, ModelNotPriced, NotPriced, SandboxPrice, TokenPrice
from shared.billing.service import Priced
from shared.kernel.money import price
from shared.usage.model import UnitPrice, UsageKind

NOW = datetime(2026, 6, 1, tzinfo=UTC)
SIZE = {"cpu_units": "256", "memory_mib": "512"}
DIMENSIONS = {"model": "gpt-5-mini", **SIZE}

counts = st.integers(0, 10_000_000)
rates = st.integers(0, 50_000_000)
models = st.builds(
    lambda rate, discount, output_rate, written: TokenPrice(
        rate, min(discount, rate), output_rate, "test", **({} if written is None else {"written_microusd": written})
    ),
    rates,
    rates,
    rates,
    st.none() | rates,
)


@pytest.mark.parametrize(("quantity", "microusd"), [(1, 0), (2, 1), (3, 2), (5, 2), (7, 4), (9, 4)])
def test_half_a_microdollar_goes_to_the_even_neighbour(quantity: int, microusd: int) -> None:
    assert price(quantity, microusd=1, per=2) == microusd


@given(st.integers(0, 10**30), st.decimals(0, 10**10, places=12), st.integers(1, 2**40))
def test_rounding_agrees_with_exact_fractions_however_big_the_figures(quantity: int, rate: Decimal, per: int) -> None:
    assert price(quantity, microusd=rate, per=per) == round(Fraction(quantity) * Fraction(rate) / per)


def test_a_cost_is_told_by_kind_of_token_and_the_kinds_add_up() -> None:
    cost = service.token_price("gpt-5-mini", at=NOW).cost(input_tokens=1_500, cached_tokens=1_000, output_tokens=200)
    assert (cost.input_microusd, cost.cached_microusd, cost.output_microusd) == (125, 25, 400)
    assert cost.total_microusd == 550


def test_each_kind_of_token_is_rounded_by_itself() -> None:
    # 1.5 input, 0.5 cached and 2.5 output micro-dollars go to 2, 0 and 2. 3.5 and 1.5 go to 4 and 2: 6, not 5.
    model = TokenPrice(500_000, 500_000, 500_000, "test")
    first = model.cost(input_tokens=4, cached_tokens=1, output_tokens=5)
    second = model.cost(input_tokens=10, cached_tokens=3, output_tokens=0)
    assert (first.input_microusd, first.cached_microusd, first.output_microusd) == (2, 0, 2)
    assert (second.input_microusd, second.cached_microusd) == (4, 2)


@given(models, counts, counts, counts, counts, counts, counts)
def test_the_events_of_a_call_never_cost_more_than_its_worst_case(
    model: TokenPrice, fresh: int, cached: int, written: int, more: int, out: int, more_out: int
) -> None:
    tokens = fresh + cached + written
    worst = model.most(input_tokens=tokens + more, output_tokens=out + more_out)
    cost = model.cost(input_tokens=tokens, cached_tokens=cached, written_tokens=written, output_tokens=out)
    assert 0 <= cost.total_microusd <= worst
    assert min(cost.input_microusd, cost.cached_microusd, cost.written_microusd, cost.output_microusd) >= 0


odd_rates = st.sampled_from([0, 1, 250_000, 500_000, 750_000])


# Few tokens at odd prices: there roundings up are met most often.
@given(st.integers(0, 3), st.integers(0, 3), st.integers(0, 3), st.integers(0, 3), odd_rates, odd_rates)
def test_the_worst_case_holds_where_every_event_is_rounded_up(
    inputs: int, cached: int, written: int, out: int, rate: int, write_rate: int
) -> None:
    model = TokenPrice(rate, rate, rate, "test", written_microusd=write_rate)
    tokens = inputs + cached + written
    worst = model.most(input_tokens=tokens, output_tokens=out)
    cost = model.cost(input_tokens=tokens, cached_tokens=cached, written_tokens=written, output_tokens=out)
    assert cost.total_microusd <= worst


def test_halves_that_are_all_rounded_up_are_within_the_worst_case() -> None:
    # 1.5, 1.5 and 1.5 micro-dollars: 2, 2 and 2, while the nine tokens together are 4.5, that is, 4.
    model = TokenPrice(500_000, 500_000, 0, "test")
    cost = model.cost(input_tokens=9, cached_tokens=3, written_tokens=3, output_tokens=0)
    assert cost.total_microusd == 6
    assert model.most(input_tokens=9, output_tokens=0) == 6


def test_the_worst_case_takes_all_input_to_be_put_into_a_cache_that_costs_more() -> None:
    # A million tokens at $1.25 rather than $1, and two for the roundings.
    model = TokenPrice(1_000_000, 100_000, 0, "test", written_microusd=1_250_000)
    assert model.most(input_tokens=1_000_000, output_tokens=0) == 1_250_002


@given(models, counts, counts)
def test_the_worst_case_never_falls_when_a_count_grows(model: TokenPrice, tokens: int, out: int) -> None:
    most = model.most(input_tokens=tokens, output_tokens=out)
    assert model.most(input_tokens=tokens + 1, output_tokens=out) >= most
    assert model.most(input_tokens=tokens, output_tokens=out + 1) >= most


@pytest.mark.parametrize(
    "counts", [(1, 2, 0, 0), (1, -1, 0, 0), (-1, -1, 0, 0), (1, 0, -1, 0), (1, 0, 0, 2), (2, 1, 0, 2), (1, 0, 0, -1)]
)
def test_impossible_token_counts_are_refused(counts: tuple[int, int, int, int]) -> None:
    input_tokens, cached_tokens, output_tokens, written_tokens = counts
    with pytest.raises(ValueError, match="impossible token counts"):
        TokenPrice(1, 1, 1, "test").cost(
            input_tokens=input_tokens,
            cached_tokens=cached_tokens,
            output_tokens=output_tokens,
            written_tokens=written_tokens,
        )


def test_a_sandbox_s_price_is_rounded_once() -> None:
    # 0.25 + 0.25 of a micro-dollar make half of one, which goes to 0; 0.75 + 0.75 make 1.5, which goes to 2.
    rate = SandboxPrice(vcpu_hour_microusd=1, gb_hour_microusd=1, source="test")
    assert rate.cost(cpu_units=1024, memory_mib=1024, seconds=900) == 0
    assert rate.cost(cpu_units=1024, memory_mib=1024, seconds=2_700) == 2


@pytest.mark.parametrize("kind", list(UsageKind))
@given(quantity=st.integers(0, 10**15))
def test_the_cost_of_every_kind_is_its_quantity_times_its_unit_price_rounded(kind: UsageKind, quantity: int) -> None:
    priced = service.price_of(kind, quantity, DIMENSIONS, at=NOW)
    exact = Fraction(quantity) * Fraction(priced.unit_price.microusd) / priced.unit_price.units
    assert priced.cost_microusd == round(exact)


@given(st.integers(0, 10**9), st.integers(0, 10**9), st.integers(0, 10**9), counts)
def test_an_event_costs_what_the_call_or_the_sandbox_was_told(fresh: int, cached: int, written: int, out: int) -> None:
    cost = service.token_price("gpt-5-mini", at=NOW).cost(
        input_tokens=fresh + cached + written, cached_tokens=cached, written_tokens=written, output_tokens=out
    )
    found = [
        service.price_of(kind, quantity, DIMENSIONS, at=NOW).cost_microusd
        for kind, quantity in zip(
            (
                UsageKind.TOKENS_INPUT,
                UsageKind.TOKENS_CACHED,
                UsageKind.TOKENS_CACHE_WRITTEN,
                UsageKind.TOKENS_OUTPUT,
            ),
            (fresh, cached, written, out),
            strict=True,
        )
    ]
    assert found == [cost.input_microusd, cost.cached_microusd, cost.written_microusd, cost.output_microusd]
    told = service.price_of_sandbox(cpu_units=256, memory_mib=512, seconds=out, at=NOW)
    assert service.price_of(UsageKind.SANDBOX_SECONDS, out, SIZE, at=NOW).cost_microusd == told


def test_a_token_s_price_tells_its_unit() -> None:
    found = service.price_of(UsageKind.TOKENS_CACHED, 1_000, {"model": "gpt-5-mini"}, at=NOW)
    assert found == Priced(25, UnitPrice(found.unit_price.microusd, 1_000_000))
    assert found.unit_price.microusd == 25_000
    assert service.token_price("gpt-5-mini", at=NOW).unit_price(UsageKind.TOKENS_CACHED) == found.unit_price


@pytest.mark.parametrize(
    ("kind", "quantity", "dimensions", "param"),
    [
        (UsageKind.TOKENS_INPUT, 1, {}, "dimensions.model"),
        (UsageKind.TOKENS_OUTPUT, 1, {"model": ""}, "dimensions.model"),
        (UsageKind.SANDBOX_SECONDS, 1, {"cpu_units": "256"}, "dimensions.memory_mib"),
        (UsageKind.SANDBOX_SECONDS, 1, {"memory_mib": "512"}, "dimensions.cpu_units"),
        *(
            (UsageKind.SANDBOX_SECONDS, 1, SIZE | {"cpu_units": size}, "dimensions.cpu_units")
            for size in ("0", "-256", "2.5", " 256", "1_024", "\u0662\u0665\u0666", "1" * 7, "1" * 5_000, "x")
        ),
        (UsageKind.API_CALLS, -1, {}, "quantity"),
        (UsageKind.TOKENS_OUTPUT, 2**63 - 1, {"model": "gpt-5"}, "quantity"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_cannot_be_priced_says_why(kind: UsageKind, quantity: int, dimensions: dict[str, str], param: str) -> None:
    with pytest.raises(CannotPrice) as refused:
        service.price_of(kind, quantity, dimensions, at=NOW)
    assert (refused.value.code, refused.value.param) == ("not_priceable", param)
    assert len(refused.value.message) < 200


def test_a_model_without_a_price_is_named_in_the_message() -> None:
    with pytest.raises(ModelNotPriced, match="no-such-model") as refused:
        service.token_price("no-such-model", at=NOW)
    assert (refused.value.code, refused.value.param) == ("model_not_priced", "model")
    with pytest.raises(ModelNotPriced):
        service.price_of(UsageKind.TOKENS_INPUT, 1, {"model": "no-such-model"}, at=NOW)


def test_what_occurred_before_the_first_prices_is_not_priced() -> None:
    with pytest.raises(NotPriced):
        service.price_of(UsageKind.API_CALLS, 1, {}, at=datetime(2024, 12, 31, 23, 59, 59, tzinfo=UTC))
