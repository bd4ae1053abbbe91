"""Signing in: with password, second factor and recovery code; how guesses are slowed down."""

import hashlib
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import argon2
import pyotp
import pytest

from functions.api.auth import handler as auth
from shared.kernel import clock, db, ids, settings
from shared.people import service
from shared.people.model import OF_ACCOUNT, OF_ADDRESS
from tests.api_gateway import Answer
from tests.emulator import Emulator
from tests.integration.people.somebody import OTHER_PASSWORD, PASSWORD, Somebody

WRONG = "not the password at all"


def login(call: Callable[..., Answer], email: str, password: str) -> Answer:
    return call(auth, "POST", "/v1/auth/login", json={"email": email, "password": password})


def forget_attempts() -> None:
    with db.anonymous() as tx:
        tx.execute("DELETE FROM login_failures")


def end_waiting() -> None:
    """Let the time that attempts have to wait be over."""
    with db.anonymous() as tx:
        tx.execute("UPDATE login_failures SET blocked_until = now()")


@pytest.fixture
def guarded(ada: Somebody) -> tuple[Somebody, pyotp.TOTP, list[str]]:
    """Somebody with a second factor, whose next code is good, and their recovery codes."""
    started = ada.me("POST", "/totp").json
    totp = pyotp.TOTP(started["secret"])
    # The step before this one: so that the present one is not used up yet.
    confirmed = ada.me("POST", "/totp/confirm", code=totp.at(clock.now().timestamp() - 30))
    assert confirmed.status == 200, confirmed.text
    return ada, totp, confirmed.json["recovery_codes"]


def test_the_right_password_opens_a_session_in_the_org_of_the_last_one(ada: Somebody) -> None:
    answer = ada.sign_in()
    assert answer.status == 200
    caller = ada.caller()
    assert ids.show("org", caller.org_id) == answer.json["org_id"]
    assert ids.show("user", caller.person_id or UUID(int=0)) == answer.json["user_id"]
    assert (caller.role, caller.ip) == ("owner", "")


def test_a_wrong_password_and_an_unknown_address_are_the_same(call: Callable[..., Answer], ada: Somebody) -> None:
    wrong = login(call, ada.email, WRONG)
    unknown = login(call, "nobody@example.org", WRONG)
    assert (wrong.status, unknown.status) == (401, 401)
    without_id: Callable[[Answer], dict[str, Any]] = lambda answer: answer.json["error"] | {"request_id": ""}  # noqa: E731
    assert without_id(wrong) == without_id(unknown)
    assert wrong.headers.keys() == unknown.headers.keys()


@pytest.mark.parametrize("email", ["ada@example.org", "nobody@example.org"])
def test_after_five_failures_each_further_try_has_to_wait_twice_as_long(ada: Somebody, email: str) -> None:
    ada.email = email
    answers = []
    for _ in range(8):
        answers.append(login(ada.call, email, WRONG))
        if answers[-1].status == 401:
            answers.append(login(ada.call, email, WRONG))
        end_waiting()
    waits = [int(answer.headers["retry-after"]) for answer in answers if answer.status == 429]
    assert waits == [1, 2, 4, 8, 16, 32]
    assert {answer.error for answer in answers} == {"invalid_credentials", "too_many_attempts"}


def test_the_longest_wait_is_a_quarter_of_an_hour(ada: Somebody) -> None:
    login(ada.call, ada.email, WRONG)
    with db.anonymous() as tx:
        tx.execute("UPDATE login_failures SET failures = 1000")
    login(ada.call, ada.email, WRONG)
    assert login(ada.call, ada.email, PASSWORD).headers["retry-after"] == "900"


def test_who_is_locked_out_by_anothers_guesses_gets_in_by_a_letter(ada: Somebody) -> None:
    for _ in range(6):
        login(ada.call, ada.email, WRONG)
    assert ada.sign_in().status == 429
    ada.auth("forgot-password", email=ada.email)
    ada.auth("reset-password", token=ada.link("reset-password"), password=OTHER_PASSWORD)
    ada.password = OTHER_PASSWORD
    assert ada.sign_in().status == 200


def test_success_sets_the_accounts_counter_back(ada: Somebody) -> None:
    for _ in range(3):
        for _ in range(4):
            assert login(ada.call, ada.email, WRONG).status == 401
        assert ada.sign_in().status == 200


def test_one_address_can_not_try_many_accounts(ada: Somebody) -> None:
    answers = [login(ada.call, f"victim{number}@example.org", WRONG).status for number in range(32)]
    assert answers == [401] * 30 + [429] * 2
    # And it can't use its own account to set that back.
    assert ada.sign_in().status == 429


def test_signing_in_does_not_count_against_an_address(ada: Somebody) -> None:
    assert [ada.sign_in().status for _ in range(35)] == [200] * 35


def test_of_many_guesses_at_once_none_slips_through(ada: Somebody) -> None:
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: login(ada.call, ada.email, WRONG).status, range(32)))
    assert answers.count(401) == 5
    assert answers.count(429) == 27


def test_counters_hold_hashes_and_no_addresses(ada: Somebody) -> None:
    login(ada.call, ada.email, WRONG)
    with db.anonymous() as tx:
        found = {bytes(row["subject_sha256"]) for row in tx.execute("SELECT subject_sha256 FROM login_failures")}
    assert OF_ACCOUNT.subject(ada.email) == hashlib.sha256(b"email:ada@example.org").digest()
    assert {OF_ACCOUNT.subject(ada.email), OF_ADDRESS.subject("203.0.113.10")} <= found


def test_a_hash_of_older_parameters_is_replaced_at_the_next_sign_in(ada: Somebody) -> None:
    weak = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(PASSWORD)
    user_id = ids.read("user", ada.tokens["user_id"])
    with db.person(user_id) as tx:
        tx.execute("UPDATE users SET password_hash = %s", (weak,))
    assert ada.sign_in().status == 200
    with db.person(user_id) as tx:
        row = tx.execute("SELECT password_hash FROM users").fetchone()
    assert row is not None
    assert row["password_hash"].startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert ada.sign_in().status == 200


def test_who_has_no_password_can_not_sign_in_with_one(ada: Somebody) -> None:
    with db.person(ids.read("user", ada.tokens["user_id"])) as tx:
        tx.execute("UPDATE users SET password_hash = NULL")
    assert ada.sign_in().error == "invalid_credentials"


def test_the_second_factor_is_asked_for_after_the_right_password_only(
    guarded: tuple[Somebody, pyotp.TOTP, list[str]],
) -> None:
    somebody, totp, _ = guarded
    assert login(somebody.call, somebody.email, WRONG).error == "invalid_credentials"
    asked = somebody.sign_in()
    assert (asked.status, asked.error) == (401, "totp_required")
    answer = somebody.sign_in(totp=totp.now())
    assert answer.status == 200
    assert somebody.me("GET").json["has_second_factor"] is True


def test_a_code_is_good_once_and_for_the_step_before_and_after(
    guarded: tuple[Somebody, pyotp.TOTP, list[str]],
) -> None:
    somebody, totp, _ = guarded
    now = time.time()
    assert somebody.sign_in(totp=totp.at(now - 90)).error == "second_factor_refused"
    assert somebody.sign_in(totp=totp.at(now + 90)).error == "second_factor_refused"
    code = totp.at(now + 30)
    assert somebody.sign_in(totp=code).status == 200
    assert somebody.sign_in(totp=code).error == "second_factor_refused"
    # Nor is one of before that.
    assert somebody.sign_in(totp=totp.at(now)).error == "second_factor_refused"


def test_of_many_uses_of_one_code_at_once_one_succeeds(guarded: tuple[Somebody, pyotp.TOTP, list[str]]) -> None:
    somebody, totp, _ = guarded
    code = totp.now()
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: replace(somebody).sign_in(totp=code).status, range(4)))
    assert sorted(answers) == [200, 401, 401, 401]


def test_codes_can_not_be_guessed_at_for_long(guarded: tuple[Somebody, pyotp.TOTP, list[str]]) -> None:
    somebody, totp, _ = guarded
    refused = [somebody.sign_in(totp="000000").status for _ in range(5)]
    assert refused == [401] * 5
    assert somebody.sign_in(totp=totp.now()).status == 429
    # Asking without a code sets nothing back.
    end_waiting()
    assert somebody.sign_in().error == "totp_required"
    assert somebody.sign_in(totp="000000").status == 401
    assert somebody.sign_in(totp="000000").status == 429


def test_a_recovery_code_is_good_once_and_a_letter_tells_of_its_use(
    guarded: tuple[Somebody, pyotp.TOTP, list[str]],
) -> None:
    somebody, _, codes = guarded
    assert len(set(codes)) == 10
    assert somebody.sign_in(recovery_code=codes[0].upper().replace("-", " ")).status == 200
    assert somebody.sign_in(recovery_code=codes[0]).error == "second_factor_refused"
    assert somebody.sign_in(recovery_code="aaaa-bbbb-cccc-dddd").error == "second_factor_refused"
    service.ask_for_unsent(timedelta(0))
    assert "recovery code" in somebody.mail()[-1]["BodyText"]


def test_whose_second_factor_is_lost_with_its_key_gets_in_by_a_recovery_code_and_sets_up_a_new_one(
    guarded: tuple[Somebody, pyotp.TOTP, list[str]], emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    somebody, totp, codes = guarded
    monkeypatch.setenv("RUNYARD_IDENTITY_KEY_ARN", emulator.client("kms").create_key()["KeyMetadata"]["Arn"])
    settings.forget()
    assert somebody.sign_in(totp=totp.now()).error == "second_factor_refused"
    assert somebody.sign_in(recovery_code=codes[0]).status == 200


def test_what_is_kept_of_a_second_factor_is_of_no_use(guarded: tuple[Somebody, pyotp.TOTP, list[str]]) -> None:
    somebody, totp, codes = guarded
    with db.person(ids.read("user", somebody.tokens["user_id"])) as tx:
        kept = str([*tx.execute("SELECT * FROM users"), *tx.execute("SELECT * FROM recovery_codes")])
    assert totp.secret not in kept
    assert not any(code in kept or code.replace("-", "") in kept for code in codes)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"email": "ada@example.org"},
        {"email": ["ada@example.org"], "password": PASSWORD},
        {"email": "ada@example.org", "password": {"$ne": ""}},
        {"email": "ada@example.org", "password": "x" * 257},
        {"email": "ada@example.org", "password": PASSWORD, "totp": "12345"},
        {"email": "ada@example.org", "password": PASSWORD, "totp": "１２３４５６"},
        {"email": "ada@example.org", "password": "nul\x00byte in a password"},
        {"email": "ada@example.org\x00", "password": PASSWORD},
        {"email": "a" * 70 + "@example.org", "password": PASSWORD},
        {"email": "ada@example.org", "password": PASSWORD, "admin": True},
    ],
)
def test_a_malformed_sign_in_is_refused_without_repeating_the_password(ada: Somebody, body: dict[str, Any]) -> None:
    answer = ada.call(auth, "POST", "/v1/auth/login", json=body)
    assert answer.status == 400
    assert PASSWORD not in answer.text
    forget_attempts()


def test_a_password_typed_in_another_composition_is_the_same(somebody: Somebody) -> None:
    somebody.password = "caf\u00e9 au lait at nine"
    somebody.registered()
    somebody.password = "cafe\u0301 au lait at nine"
    assert somebody.sign_in().status == 200
