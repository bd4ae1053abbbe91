"""What is metered, and in which unit."""

import pytest

from shared.usage.model import UsageKind


@pytest.mark.parametrize("kind", UsageKind)
def test_every_kind_of_usage_has_a_unit(kind: UsageKind) -> None:
    assert kind.unit in {"token", "second", "operation", "byte_hour", "call"}


def test_tokens_are_counted_in_tokens_and_sandboxes_in_seconds() -> None:
    assert UsageKind.TOKENS_CACHED.unit == "token"
    assert UsageKind.SANDBOX_SECONDS.unit == "second"
