"""One's own account: profile, password, second factor; what a stolen session can't do; the password lost and reset."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyotp
import pytest

from functions.api.account import handler as account
from functions.api.audit import handler as audit
from functions.queues.send_letters import handler as send_letters
from functions.schedules.tidy import handler as tidy
from shared.kernel import clock, db, ids
from shared.kernel.caller import Caller
from shared.people import service
from tests.api_gateway import Answer, Context
from tests.integration.people.somebody import OTHER_PASSWORD, PASSWORD, Somebody

EVENTS = Path(__file__).resolve().parents[3] / "events"


def actions(somebody: Somebody) -> list[str]:
    events = somebody.call(audit, "GET", "/v1/audit-events?limit=100", somebody.caller()).json["data"]
    return [event["action"] for event in events]


def with_second_factor(somebody: Somebody) -> tuple[pyotp.TOTP, list[str]]:
    totp = pyotp.TOTP(somebody.me("POST", "/totp").json["secret"])
    confirmed = somebody.me("POST", "/totp/confirm", code=totp.at(clock.now().timestamp() - 30))
    return totp, confirmed.json["recovery_codes"]


def test_name_and_metadata_can_be_changed(ada: Somebody) -> None:
    changed = ada.me("PATCH", name="Ada L.", metadata={"team": "engines"}).json
    assert (changed["name"], changed["metadata"]) == ("Ada L.", {"team": "engines"})
    assert ada.me("GET").json == changed
    assert ada.me("PATCH", metadata={}).status == 200
    assert ada.me("GET").json["name"] == "Ada L."
    assert "user.update" in actions(ada)


def test_an_api_key_has_no_account_to_change(ada: Somebody, org: Caller) -> None:
    key = replace(org, scopes=org.scopes | {"account:write", "account:read"})
    answers = [
        ada.call(account, "PATCH", "/v1/me", key, json={"name": "X"}),
        ada.call(account, "POST", "/v1/me/totp", key),
        ada.call(account, "POST", "/v1/me/totp/confirm", key, json={"code": "123456"}),
        ada.call(account, "DELETE", "/v1/me/totp", key, json={"code": "123456"}),
        ada.call(account, "POST", "/v1/me/recovery-codes", key, json={"code": "123456"}),
        ada.call(
            account, "POST", "/v1/me/password", key, json={"current_password": PASSWORD, "new_password": OTHER_PASSWORD}
        ),
    ]
    assert {(answer.status, answer.error) for answer in answers} == {(403, "not_a_person")}


def test_a_changed_password_ends_the_other_sessions_and_a_letter_tells(ada: Somebody) -> None:
    other = replace(ada, tokens=dict(ada.tokens))
    ada.sign_in()
    changed = ada.me("POST", "/password", current_password=PASSWORD, new_password=OTHER_PASSWORD)
    assert changed.json == {"object": "password_set"}
    assert other.refresh().error == "session_ended"
    assert ada.refresh().status == 200
    assert ada.sign_in().error == "invalid_credentials"
    assert replace(ada, password=OTHER_PASSWORD).sign_in().status == 200
    assert "the password was changed" in ada.mail()[-1]["BodyText"]


def test_who_has_a_session_only_can_not_guess_the_password_behind_it(ada: Somebody) -> None:
    guess = {"current_password": "not the password at all", "new_password": OTHER_PASSWORD}
    answers = [ada.me("POST", "/password", **guess) for _ in range(6)]
    assert [answer.error for answer in answers] == ["proof_refused"] * 5 + ["too_many_attempts"]
    assert ada.me("DELETE", "/totp", current_password="guess").error == "too_many_attempts"
    assert ada.me("POST", "/recovery-codes", code="000000").error == "too_many_attempts"
    # The account's owner still gets in.
    assert ada.sign_in().status == 200


def test_a_new_password_is_held_to_the_same_rules(ada: Somebody) -> None:
    answer = ada.me("POST", "/password", current_password=PASSWORD, new_password="password1234")
    assert (answer.status, answer.error) == (400, "password_refused")
    assert ada.sign_in().status == 200


def test_the_same_request_again_changes_the_password_once(ada: Somebody) -> None:
    body = {"current_password": PASSWORD, "new_password": OTHER_PASSWORD}
    key = {"Idempotency-Key": "change"}
    first = ada.call(account, "POST", "/v1/me/password", ada.caller(), json=body, headers=key)
    again = ada.call(account, "POST", "/v1/me/password", ada.caller(), json=body, headers=key)
    assert (first.status, again.status) == (200, 200)
    assert again.headers["idempotency-replayed"] == "true"


def test_a_second_factor_is_on_once_its_first_code_was_right(ada: Somebody) -> None:
    started = ada.me("POST", "/totp")
    assert started.status == 201
    assert started.json["otpauth_uri"].startswith("otpauth://totp/Runyard:ada%40example.org?secret=")
    assert ada.sign_in().status == 200
    assert ada.me("POST", "/totp/confirm", code="000000").error == "proof_refused"
    assert ada.me("GET").json["has_second_factor"] is False
    code = pyotp.TOTP(started.json["secret"]).now()
    assert len(ada.me("POST", "/totp/confirm", code=code).json["recovery_codes"]) == 10
    assert ada.sign_in(totp=code).error == "second_factor_refused"
    assert "a second factor was turned on" in ada.mail()[-1]["BodyText"]
    assert "second_factor.create" in actions(ada)


def test_a_second_factor_is_not_replaced_while_it_is_on(ada: Somebody) -> None:
    with_second_factor(ada)
    assert ada.me("POST", "/totp").error == "second_factor_on"
    assert ada.me("POST", "/totp/confirm", code="123456").error == "second_factor_on"


def test_without_a_second_factor_there_is_none_to_confirm_or_remove(ada: Somebody) -> None:
    assert ada.me("POST", "/totp/confirm", code="123456").error == "second_factor_off"
    assert ada.me("DELETE", "/totp", current_password=PASSWORD).error == "second_factor_off"


def test_a_secret_is_shown_once_even_to_the_same_request_again(ada: Somebody) -> None:
    key = {"Idempotency-Key": "begin"}
    first = ada.call(account, "POST", "/v1/me/totp", ada.caller(), headers=key)
    again = ada.call(account, "POST", "/v1/me/totp", ada.caller(), headers=key)
    assert first.json["secret"]
    assert first.json["secret"] not in again.text
    totp = pyotp.TOTP(first.json["secret"])
    body = {"code": totp.at(clock.now().timestamp() - 30)}
    confirmed = ada.call(account, "POST", "/v1/me/totp/confirm", ada.caller(), json=body, headers=key | {"x": "y"})
    assert confirmed.error == "idempotency_key_reused"


@pytest.mark.parametrize("proof", ["password", "totp", "recovery code"])
def test_a_second_factor_is_turned_off_by_who_can_prove_it_is_them(ada: Somebody, proof: str) -> None:
    totp, codes = with_second_factor(ada)
    assert ada.me("DELETE", "/totp", code="000000").error == "proof_refused"
    assert ada.me("DELETE", "/totp").status == 400
    body: dict[str, dict[str, Any]] = {
        "password": {"current_password": PASSWORD},
        "totp": {"code": totp.now()},
        "recovery code": {"code": codes[3]},
    }
    assert ada.me("DELETE", "/totp", **body[proof]).json == {"object": "totp_removed"}
    assert ada.sign_in().status == 200
    assert "the second factor was turned off" in ada.mail()[-1]["BodyText"]


def test_new_recovery_codes_replace_the_old_ones(ada: Somebody) -> None:
    totp, old = with_second_factor(ada)
    new = ada.me("POST", "/recovery-codes", code=totp.now()).json["recovery_codes"]
    assert not set(old) & set(new)
    assert ada.sign_in(recovery_code=old[0]).error == "second_factor_refused"
    assert ada.sign_in(recovery_code=new[0]).status == 200
    assert "recovery_codes.create" in actions(ada)


def test_a_lost_password_is_set_anew_by_letter_and_ends_every_session(ada: Somebody) -> None:
    assert ada.auth("forgot-password", email=ada.email).json == {"object": "accepted"}
    token = ada.link("reset-password")
    assert ada.auth("reset-password", token=token, password=OTHER_PASSWORD).json == {"object": "password_set"}
    assert ada.refresh().error == "session_ended"
    assert ada.sign_in().error == "invalid_credentials"
    ada.password = OTHER_PASSWORD
    assert ada.sign_in().status == 200
    assert {"user.reset_password", "session.end"} <= set(actions(ada))
    service.ask_for_unsent(timedelta(0))
    assert "set anew" in ada.mail()[-1]["BodyText"]


def test_a_reset_keeps_the_second_factor(ada: Somebody) -> None:
    totp, _ = with_second_factor(ada)
    ada.auth("forgot-password", email=ada.email)
    ada.auth("reset-password", token=ada.link("reset-password"), password=OTHER_PASSWORD)
    ada.password = OTHER_PASSWORD
    assert ada.sign_in().error == "totp_required"
    assert ada.sign_in(totp=totp.now()).status == 200


def test_a_reset_uses_up_every_letter_of_its_kind(ada: Somebody) -> None:
    ada.auth("forgot-password", email=ada.email)
    first = ada.link("reset-password")
    ada.auth("forgot-password", email=ada.email)
    second = ada.link("reset-password")
    assert ada.auth("reset-password", token=second, password="password1234").error == "password_refused"
    assert ada.auth("reset-password", token=second, password=OTHER_PASSWORD).status == 200
    for token in (first, second):
        assert ada.auth("reset-password", token=token, password=PASSWORD).error == "link_invalid"


def test_a_reset_and_a_sign_in_at_once_leave_no_session_of_the_old_password(ada: Somebody) -> None:
    ada.auth("forgot-password", email=ada.email)
    token = ada.link("reset-password")
    other = replace(ada, tokens={})
    with ThreadPoolExecutor(4) as pool:
        signing_in = [pool.submit(replace(other).auth, "login", email=ada.email, password=PASSWORD) for _ in range(3)]
        reset = pool.submit(ada.auth, "reset-password", token=token, password=OTHER_PASSWORD)
        opened = [answer.result() for answer in signing_in if answer.result().status == 200]
    assert reset.result().status == 200
    assert [other.refresh(each.json["refresh_token"]).error for each in opened] == ["session_ended"] * len(opened)


def test_a_changed_password_makes_letters_of_before_useless(ada: Somebody) -> None:
    ada.auth("forgot-password", email=ada.email)
    token = ada.link("reset-password")
    ada.me("POST", "/password", current_password=PASSWORD, new_password=OTHER_PASSWORD)
    assert ada.auth("reset-password", token=token, password=PASSWORD).error == "link_invalid"


def test_an_unknown_address_gets_the_same_answer_and_no_letter(call: Callable[..., Answer], ada: Somebody) -> None:
    known = ada.auth("forgot-password", email=ada.email)
    unknown = replace(ada, email="nobody@example.org")
    answer = unknown.auth("forgot-password", email=unknown.email)
    assert (answer.status, answer.text) == (known.status, known.text)
    asked_for = ada.emulator.letters_asked_for()
    assert len(asked_for) == 2
    # The consumer deletes what is to nobody.
    send_letters({"Records": asked_for}, Context())
    assert unknown.mail() == []
    assert len(ada.mail()) == 2
    assert service.ask_for_unsent(timedelta(0)) == 0


def test_what_has_expired_is_tidied_away_and_nothing_else(ada: Somebody) -> None:
    ada.sign_in()
    user_id = ids.read("user", ada.tokens["user_id"])
    with db.person(user_id) as tx:
        tx.execute("UPDATE letters SET expires_at = now() - interval '2 days'")
        kept = ids.read("ses", ada.tokens["session_id"])
        tx.execute("UPDATE sessions SET expires_at = now() - interval '31 days' WHERE id <> %s", (kept,))
    with db.anonymous() as tx:
        tx.execute("UPDATE login_failures SET last_failed_at = now() - interval '3 days'")
        tx.execute(
            """INSERT INTO pending_logins (state_sha256, browser_sha256, provider, nonce, code_verifier, expires_at)
               VALUES ('a', 'a', 'google', '', '', now()), ('b', 'b', 'google', '', '', now() + interval '1 hour')"""
        )
    scheduled = json.loads((EVENTS / "schedules" / "tidy.json").read_text())
    done = tidy(scheduled, Context())
    assert done["letters"] == 1
    assert done["sessions"] == 1
    assert done["pending_logins"] == 1
    assert done["attempts"] >= 1
    assert ada.refresh().status == 200
    assert tidy(scheduled, Context()) == {"letters": 0, "sessions": 0, "pending_logins": 0, "attempts": 0}
