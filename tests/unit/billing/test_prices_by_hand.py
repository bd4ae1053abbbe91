"""Prices of usage events, each against a figure worked out by hand."""

from datetime import UTC, datetime, timedelta

import pytest

from shared.billing import service
from shared.billing.price_book import read
from shared.billing.prices import NotPriced, PriceBook
from shared.kernel import clock
from shared.usage.model import UsageKind

JUNE = datetime(2026, 6, 1, tzinfo=UTC)
MINI = {"model": "gpt-5-mini"}
NANO = {"model": "gpt-5-nano"}
QUARTER = {"cpu_units": "256", "memory_mib": "512"}
WHOLE = {"cpu_units": "1024", "memory_mib": "2048"}
GB = 2**30
INPUT, CACHED, OUTPUT = UsageKind.TOKENS_INPUT, UsageKind.TOKENS_CACHED, UsageKind.TOKENS_OUTPUT
SANDBOX, STORAGE, CALL = UsageKind.SANDBOX_SECONDS, UsageKind.STORAGE_BYTE_HOURS, UsageKind.CALL_SECONDS

# Kind, quantity, dimensions, micro-dollars, and how one gets there. Rates are the book's from 2025-01-01 on.
BY_HAND = [
    (INPUT, 1_500, MINI, 375, "1,500 tokens at $0.25 a million: 1,500 x 0.25 micro-dollars"),
    (CACHED, 1_000, MINI, 25, "1,000 tokens at $0.025 a million: 1,000 x 0.025"),
    (OUTPUT, 200, MINI, 400, "200 tokens at $2 a million: 200 x 2"),
    (INPUT, 12, {"model": "gpt-4.1"}, 24, "12 tokens at $2 a million: 12 x 2"),
    (INPUT, 1_000_000, {"model": "text-embedding-3-small"}, 20_000, "a million tokens at $0.02 a million: 2 cents"),
    (OUTPUT, 7, {"model": "text-embedding-3-small"}, 0, "an embedding's output costs nothing"),
    (INPUT, 1, MINI, 0, "0.25 is nearer to 0"),
    (INPUT, 2, MINI, 0, "0.5 is exactly half: to 0, which is even"),
    (INPUT, 3, MINI, 1, "0.75 is nearer to 1"),
    (INPUT, 6, MINI, 2, "1.5 is exactly half: to 2, which is even"),
    (INPUT, 10, MINI, 2, "2.5 is exactly half: to 2, which is even"),
    (INPUT, 14, MINI, 4, "3.5 is exactly half: to 4, which is even"),
    (CACHED, 20, MINI, 0, "20 x 0.025 = 0.5 is exactly half: to 0"),
    (CACHED, 21, MINI, 1, "21 x 0.025 = 0.525 is above half: to 1"),
    (CACHED, 60, MINI, 2, "60 x 0.025 = 1.5 is exactly half: to 2"),
    (INPUT, 10, NANO, 0, "10 x 0.05 = 0.5 is exactly half: to 0"),
    (INPUT, 0, MINI, 0, "nothing costs nothing"),
    (INPUT, 10**12, MINI, 250_000_000_000, "a million million tokens at $0.25 a million: $250,000"),
    (INPUT, 10**12 + 2, MINI, 250_000_000_000, "and two tokens more: half a micro-dollar more, to the even 0"),
    (INPUT, 10**12 + 6, MINI, 250_000_000_002, "and six tokens more: 1.5 more, to the even 2"),
    (INPUT, 10**18 + 2, MINI, 25 * 10**16, "10^18 tokens and two: a float would have lost the two"),
    (SANDBOX, 3_600, QUARTER, 9_875, "an hour: 32,380 / 4 = 8,095 of vCPU and 3,560 / 2 = 1,780 of memory"),
    (SANDBOX, 60, QUARTER, 165, "a minute: 9,875 / 60 = 164.58"),
    (SANDBOX, 1, QUARTER, 3, "a second: 9,875 / 3,600 = 2.743"),
    (SANDBOX, 3_599, QUARTER, 9_872, "an hour but for a second: 9,875 - 2.743 = 9,872.257"),
    (SANDBOX, 3_600, WHOLE, 39_500, "an hour: 32,380 of vCPU and 2 x 3,560 = 7,120 of memory"),
    (SANDBOX, 1, WHOLE, 11, "a second: 39,500 / 3,600 = 10.97"),
    (SANDBOX, 36, WHOLE, 395, "36 seconds are a hundredth of an hour"),
    (SANDBOX, 0, WHOLE, 0, "a sandbox that never got ready"),
    (SANDBOX, 10**12, WHOLE, 10_972_222_222_222, "39,500 x 10^12 / 3,600 = 10,972,222,222,222.2"),
    (STORAGE, GB, {}, 137, "a GB for an hour"),
    (STORAGE, 730 * GB, {}, 100_010, "a GB for a month of 730 hours: 730 x 137, ten cents but for the rounded rate"),
    (STORAGE, GB // 2, {}, 68, "half a GB-hour: 68.5 is exactly half: to 68, which is even"),
    (STORAGE, GB * 3 // 2, {}, 206, "one and a half: 205.5 is exactly half: to 206, which is even"),
    (STORAGE, GB * 3 // 2 - 1, {}, 205, "one byte less: below half"),
    (STORAGE, 1, {}, 0, "a byte"),
    (CALL, 60, {}, 10_000, "a minute costs a cent"),
    (CALL, 61, {}, 10_167, "a minute and a second: 10,000 x 61 / 60 = 10,166.67, not two minutes"),
    (CALL, 1, {}, 167, "a second: 166.67"),
    (CALL, 3, {}, 500, "three seconds: a twentieth of a minute"),
    (UsageKind.MEMORY_OPERATIONS, 1_000, {}, 0, "included"),
    (UsageKind.API_CALLS, 10**12, {}, 0, "included"),
]


@pytest.mark.parametrize(
    ("kind", "quantity", "dimensions", "microusd"),
    [case[:4] for case in BY_HAND],
    ids=[f"{kind}-{quantity}-{why[:60]}" for kind, quantity, _, _, why in BY_HAND],
)
def test_an_event_costs_what_was_worked_out_by_hand(
    kind: UsageKind, quantity: int, dimensions: dict[str, str], microusd: int
) -> None:
    assert service.price_of(kind, quantity, dimensions, at=JUNE).cost_microusd == microusd


_REST = """
    "storage_gb_hour": {"microusd": %(many)d, "source": "illustrative"},
    "call_minute": {"microusd": %(many)d, "source": "illustrative"},
    "memory_operation": {"microusd": %(many)d, "source": "illustrative"},
    "api_call": {"microusd": %(many)d, "source": "illustrative"},
    "sandbox": {"vcpu_hour_microusd": %(many)d, "gb_hour_microusd": 0, "source": "illustrative"},
    "models": {"m": {"input_microusd": %(many)d, "cached_microusd": 0, "output_microusd": 0, "source": "illustrative"}}
"""
MIDNIGHT = datetime(2026, 7, 1, tzinfo=UTC)


@pytest.fixture
def doubling() -> PriceBook:
    """A book whose prices double at midnight before the 1st of July 2026, UTC."""
    dear, dearer = _REST % {"many": 3_600_000_000}, _REST % {"many": 7_200_000_000}
    return read(
        '{"versions": [{"effective_from": "2026-01-01T00:00:00Z", ' + dear + "}, "
        '{"effective_from": "2026-07-01T00:00:00Z", ' + dearer + "}]}"
    )


@pytest.mark.parametrize(
    ("kind", "before", "after"),
    [
        (INPUT, 36_000, 72_000),  # 10 x 3,600
        (SANDBOX, 10_000_000, 20_000_000),  # 10 x 1,000,000
        (UsageKind.API_CALLS, 36_000_000_000, 72_000_000_000),
    ],
    ids=["tokens", "sandbox", "calls"],
)
def test_prices_change_at_midnight(doubling: PriceBook, kind: UsageKind, before: int, after: int) -> None:
    dimensions = {"model": "m", "cpu_units": "1024", "memory_mib": "1"}

    def cost(at: datetime) -> int:
        return doubling.at(at).price_of(kind, 10, dimensions).cost_microusd

    assert cost(MIDNIGHT - timedelta(microseconds=1)) == before
    assert cost(MIDNIGHT) == after
    assert cost(MIDNIGHT + timedelta(microseconds=1)) == after


def test_an_event_that_is_recorded_late_has_the_price_of_when_it_occurred(monkeypatch: pytest.MonkeyPatch) -> None:
    occurred = datetime(2025, 1, 1, tzinfo=UTC)
    at_once = service.price_of(SANDBOX, 60, QUARTER, at=occurred)
    # Before the first prices there are none, whenever it is told of.
    for late in (timedelta(days=34), timedelta(days=3_400)):
        monkeypatch.setattr(clock, "now", lambda late=late: occurred + late)
        assert service.price_of(SANDBOX, 60, QUARTER, at=occurred) == at_once
        with pytest.raises(NotPriced):
            service.price_of(SANDBOX, 60, QUARTER, at=occurred - timedelta(microseconds=1))


def test_midnight_is_midnight_in_utc(doubling: PriceBook) -> None:
    berlin_midnight = datetime.fromisoformat("2026-07-01T00:00:00+02:00")
    assert doubling.at(berlin_midnight).api_call.microusd == 3_600_000_000
    assert doubling.at(berlin_midnight + timedelta(hours=2)).api_call.microusd == 7_200_000_000
