"""Which passwords are refused, and that hashes fit only what they were made of."""

import argon2
import pytest

from shared.people import passwords
from shared.people.model import PasswordRefused

GOOD = "seven lamps over the harbour"


@pytest.mark.parametrize(
    "password",
    [
        GOOD,
        "kX9#mQ2$vL5p",
        "пароль из пяти слов",
        "ümläut über alles 9",
        "x" * 3 + "qzjvkwpf" * 31,
        "🦊🐙🦀 in the sea at noon",
        "            a b c d e f",
    ],
)
def test_a_password_that_is_hard_to_guess_is_good(password: str) -> None:
    passwords.check(password, email="ada@example.org", name="Ada Lovelace")


@pytest.mark.parametrize(
    "password",
    [
        "",
        "elevenchars",
        "x" * 257,
        "password1234",
        "PASSWORD1234",
        "p@ssw0rd1234",
        "qwertyuiop12",
        "1qaz2wsx3edc",
        "leavemealone",
        "aaaaaaaaaaaaaaaaaaaaaaaa",
        "abcdefghijklmnop",
        "123456123456",
        "ada@example.org",
        "ADA@example.ORG",
        "adalovelace",
        "Ada.Lovelace",
        "\uff50assword1234",
    ],
)
def test_a_password_that_is_guessed_first_is_refused(password: str) -> None:
    with pytest.raises(PasswordRefused):
        passwords.check(password, email="ada@example.org", name="Ada Lovelace")


@pytest.mark.parametrize("password", ["1" * 256, "a1" * 128, "19" * 128, "@4" * 128])
def test_a_long_password_of_little_in_it_is_refused(password: str) -> None:
    with pytest.raises(PasswordRefused):
        passwords.check(password, email="ada@example.org", name="Ada")


def test_a_hash_fits_its_password_alone() -> None:
    made = passwords.hash_of(GOOD)
    assert GOOD not in made
    assert made != passwords.hash_of(GOOD)
    assert passwords.fits(GOOD, made)
    assert not passwords.fits(GOOD + " ", made)


def test_a_password_composed_differently_is_the_same() -> None:
    assert passwords.fits("cafe\u0301 au lait", passwords.hash_of("caf\u00e9 au lait"))


@pytest.mark.parametrize("stored", [None, "", "not a hash", "$argon2id$v=19$m=19456,t=2,p=1$AAAA$AAAA"])
def test_without_a_good_hash_nothing_fits(stored: str | None) -> None:
    assert not passwords.fits(GOOD, stored)


def test_the_hash_of_nothing_has_todays_parameters_so_that_it_takes_as_long() -> None:
    nothing = argon2.extract_parameters(passwords._hash_of_nothing())
    assert nothing == argon2.extract_parameters(passwords.hash_of(GOOD))
    assert (nothing.memory_cost, nothing.time_cost, nothing.parallelism) == (19456, 2, 1)
    assert nothing.type is argon2.Type.ID


def test_a_hash_of_other_parameters_is_outdated() -> None:
    assert not passwords.is_outdated(passwords.hash_of(GOOD))
    assert passwords.is_outdated(argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(GOOD))
