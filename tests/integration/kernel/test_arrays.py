"""What is written as an array is read back as it was."""

from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import DataError

from shared.kernel import db, ids
from shared.kernel.arrays import moments, plain, texts

# Neither Postgres nor UTF-8 has any others.
TEXT = st.text(st.characters(exclude_characters="\0", codec="utf-8"))


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    words=st.lists(st.none() | TEXT | st.sampled_from(["", "NULL", "null", '"', "\\", "{}", ",", "a\nb", " "])),
    numbers=st.lists(st.none() | st.integers(-(2**63), 2**63 - 1)),
)
def test_texts_and_numbers_come_back(database: str, words: list[str | None], numbers: list[int | None]) -> None:
    with db.anonymous() as tx:
        row = tx.execute(
            "SELECT %s::text[] AS words, %s::bigint[] AS numbers", (texts(words), plain(numbers))
        ).fetchone()
    assert row == {"words": words, "numbers": numbers}


def test_moments_ids_and_truths_come_back(database: str) -> None:
    times = [datetime(2026, 11, 21, 12, 30, 1, 5, tzinfo=UTC), None, datetime(1970, 1, 1, tzinfo=UTC)]
    names, facts = [ids.new(), None], [True, False]
    with db.anonymous() as tx:
        row = tx.execute(
            "SELECT %s::timestamptz[] AS times, %s::uuid[] AS names, %s::boolean[] AS facts",
            (moments(times), plain(names), plain(facts)),
        ).fetchone()
    assert row == {"times": times, "names": names, "facts": facts}


def test_what_postgres_cannot_hold_is_refused(database: str) -> None:
    with db.anonymous() as tx, pytest.raises(DataError, match="NUL"):
        tx.execute("SELECT %s::text[]", (texts(["a\0b"]),))
