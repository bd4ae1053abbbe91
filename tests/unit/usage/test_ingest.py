"""Messages of metered usage: what is refused, and that what is written is what is read."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.kernel import clock, ids
from shared.usage.ingest_schemas import MAX_EVENTS, RecordUsage, UsageMessage
from shared.usage.model import BadUsageMessage, Metered, UsageKind
from tests.unit.usage.malformed import MALFORMED

ORG = ids.new()


@pytest.mark.parametrize("fault", list(MALFORMED))
def test_a_malformed_message_is_refused_with_a_code_and_without_its_content(fault: str) -> None:
    with pytest.raises(BadUsageMessage) as refused:
        UsageMessage.read(MALFORMED[fault](ORG))
    assert refused.value.code == "bad_usage_message"
    assert "bad" not in refused.value.message.replace("bad_", "")


TEXT = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=200)
EVENTS = st.builds(
    Metered,
    kind=st.sampled_from(UsageKind),
    quantity=st.integers(0, 10**16),
    source_id=TEXT.filter(bool),
    occurred_at=st.integers(0, 34 * 86_400).map(lambda s: clock.now().astimezone(UTC) - timedelta(seconds=s)),
    dimensions=st.dictionaries(st.from_regex(r"[a-z][a-z0-9_]{0,20}", fullmatch=True), TEXT, max_size=16),
)


@settings(max_examples=50, deadline=None)
@given(st.lists(EVENTS, max_size=20))
def test_what_is_written_is_what_is_read(events: list[Metered]) -> None:
    read = [UsageMessage.read(body) for body in UsageMessage.write(ORG, events)]
    assert [event for each in read for event in each.metered()] == events
    assert {each.org_id for each in read} <= {ORG}


def test_many_events_are_divided_into_messages_of_a_size_that_sqs_takes() -> None:
    moment = clock.now()
    small = [Metered(UsageKind.API_CALLS, 1, f"s{n}", moment, {}) for n in range(1_200)]
    assert [len(UsageMessage.read(body).events) for body in UsageMessage.write(ORG, small)] == [500, 500, 200]
    long = {f"d{n}": "é" * 200 for n in range(16)}
    big = [Metered(UsageKind.API_CALLS, 1, f"s{n}", moment, long) for n in range(MAX_EVENTS)]
    bodies = UsageMessage.write(ORG, big)
    assert max(len(body.encode()) for body in bodies) <= 262_144
    assert sum(len(UsageMessage.read(body).events) for body in bodies) == MAX_EVENTS
    assert len(bodies) > 1
    assert UsageMessage.write(ORG, []) == []


def test_over_the_api_what_has_no_moment_occurred_when_it_was_received() -> None:
    now = datetime(2026, 11, 21, 12, tzinfo=UTC)
    body = {"org_id": ids.show("org", ORG), "events": [{"kind": "api_calls", "quantity": 1, "source_id": "s"}]}
    assert RecordUsage.model_validate(body).at(now) == [Metered(UsageKind.API_CALLS, 1, "s", now, {})]
