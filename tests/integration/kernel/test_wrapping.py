"""Secrets wrapped by KMS: the real emulator's key, bound to what they are for."""

import pytest

from shared.kernel import settings, wrapping
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
    with pytest.raises(Unwrappable):
        wrapping.unwrap(wrapped[:-24] + bytes(24), context={"purpose": "test"})


def test_a_secret_whose_key_was_replaced_is_said_to_be_lost(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrapped = wrapping.wrap(b"a secret", context={"purpose": "test"})
    monkeypatch.setenv("RUNYARD_IDENTITY_KEY_ARN", emulator.client("kms").create_key()["KeyMetadata"]["Arn"])
    settings.forget()
    with pytest.raises(Unwrappable):
        wrapping.unwrap(wrapped, context={"purpose": "test"})
