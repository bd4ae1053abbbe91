"""One-time codes by RFC 6238's own examples, and recovery codes."""

from base64 import b32encode
from datetime import UTC, datetime

import pytest

from shared.people import second_factor

# RFC 6238, appendix B: the secret of its SHA-1 examples, and their codes' last six digits.
SECRET = b32encode(b"12345678901234567890").decode()
EXAMPLES = [(59, "287082"), (1111111109, "081804"), (1234567890, "005924"), (2000000000, "279037")]


def at(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


@pytest.mark.parametrize(("seconds", "code"), EXAMPLES)
def test_codes_are_those_of_the_standard(seconds: int, code: str) -> None:
    assert second_factor.step_of(SECRET, code, at(seconds)) == seconds // 30


@pytest.mark.parametrize(("aside", "good"), [(-2, False), (-1, True), (0, True), (1, True), (2, False)])
def test_a_code_is_good_one_step_before_and_after_its_own(aside: int, good: bool) -> None:
    seconds, code = EXAMPLES[2]
    step = second_factor.step_of(SECRET, code, at(seconds + 30 * aside))
    assert step == (seconds // 30 if good else None)


@pytest.mark.parametrize("code", ["", "00592", "0059240", "abcdef", "\ud800", "００５９２４"])
def test_what_is_no_code_fits_no_step(code: str) -> None:
    assert second_factor.step_of(SECRET, code, at(1234567890)) is None


def test_a_secret_has_160_bits_and_its_uri_names_the_account() -> None:
    secret = second_factor.new_secret()
    assert len(secret) == 32
    uri = second_factor.uri(secret, email="ada@example.org")
    assert uri == f"otpauth://totp/Runyard:ada%40example.org?secret={secret}&issuer=Runyard"


def test_recovery_codes_are_ten_of_80_bits_and_may_be_typed_in_any_way() -> None:
    codes = second_factor.new_recovery_codes()
    assert len(set(codes)) == 10
    assert all(len(code) == 19 for code in codes)
    typed = [codes[0], codes[0].upper(), codes[0].replace("-", ""), codes[0].replace("-", " ") + " "]
    assert len({second_factor.sha256_of_recovery_code(each) for each in typed}) == 1
    assert second_factor.sha256_of_recovery_code(codes[0]) != second_factor.sha256_of_recovery_code(codes[1])
