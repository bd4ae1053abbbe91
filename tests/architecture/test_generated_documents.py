"""What is generated from the code and committed is what the code says now."""

from pathlib import Path

import pytest

from docs.generate import generated


@pytest.mark.parametrize("path", list(generated()), ids=lambda path: path.name)
def test_the_committed_document_is_up_to_date(path: Path) -> None:
    assert path.read_text() == generated()[path], "run `make openapi` and commit the result"
