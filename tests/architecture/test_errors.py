"""Every error that a caller can meet says on the errors page what it means."""

import pytest

from docs.generate import errors, errors_page
from shared.kernel.errors import RunyardError
from shared.kernel.http import STATUS_OF_KIND


@pytest.mark.parametrize("error", errors(), ids=lambda error: error.code)
def test_an_error_has_a_meaning_a_status_and_an_anchor(error: type[RunyardError]) -> None:
    assert error.__doc__
    assert error.kind in STATUS_OF_KIND
    assert f'<tr id="{error.code}">' in errors_page()


def test_two_errors_of_one_code_mean_the_same_kind_of_thing() -> None:
    kinds: dict[str, set[str]] = {}
    pending = [RunyardError]
    while pending:
        error = pending.pop()
        pending += error.__subclasses__()
        kinds.setdefault(error.code, set()).add(error.kind)
    assert {code: found for code, found in kinds.items() if len(found) > 1} == {}
