"""Secrets wrapped by KMS: the real emulator's key, bound to what they are for."""

import pytest

from shared.kernel import wrapping
from shared.kernel.wrapping import Unwrappable
from tests.emulator import Emulator


def test_a_wrapped_secret_comes_back_and_does_not_show(emulator: Emulator) -> None:
    wrapped = wrapping.wrap(b"a secret", context={"purpose": "test"})
    assert b"a secret" not in wrapped
    assert wrapping.unwrap(wrapped, context={"purpose": "test"}) == b"a secret"


def test_a_secret_is_of_no_use_for_anything_else(emulator: Emulator) -> None:
    wrapped = wrapping.wrap(b"a secret", context={"purpose": "test"})
    with pytest.raises(Unwrappable):
        wrapping.unwrap(wrapped, context={"purpose": "other"})
