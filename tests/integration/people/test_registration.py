"""From registration by letter to the first session, and the ways that lead nowhere."""

import json
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from aws_lambda_powertools.utilities.batch.exceptions import BatchProcessingError

from functions.api.billing import handler as billing
from functions.api.orgs import handler as orgs
from functions.queues.send_letters import handler as send_letters
from shared.kernel import db, settings
from shared.people import service as people
from shared.quotas.plans import PLANS
from tests.api_gateway import Context
from tests.emulator import Emulator
from tests.integration.people.somebody import OTHER_PASSWORD, PASSWORD, Somebody

EVENTS = Path(__file__).resolve().parents[3] / "events"


def test_a_confirmed_address_becomes_a_person_who_owns_an_org_with_credits(somebody: Somebody) -> None:
    assert somebody.register().json == {"object": "accepted"}
    letter = somebody.mail()[0]
    assert (letter["To"], letter["Source"]) == (["ada@example.org"], "runyard@runyard.test")
    answer = somebody.auth("confirm-email", token=somebody.link("confirm-email"), password=PASSWORD)
    assert (answer.status, answer.json["token_type"], answer.json["expires_in"]) == (201, "Bearer", 900)
    somebody.tokens = answer.json
    me = somebody.me("GET").json
    assert (me["name"], me["email"], me["role"]) == ("Ada", "ada@example.org", "owner")
    assert me["org_id"] == answer.json["org_id"]
    org = somebody.call(orgs, "GET", f"/v1/orgs/{me['org_id']}", somebody.caller()).json
    assert org["name"] == "Ada's org"
    balance = somebody.call(billing, "GET", "/v1/credits", somebody.caller()).json
    assert balance["available_microusd"] == PLANS["free"].included_credits_microusd


def test_before_the_link_is_opened_nobody_can_sign_in(somebody: Somebody) -> None:
    somebody.register()
    somebody.mail()
    assert somebody.sign_in().error == "invalid_credentials"


def test_a_link_opened_with_another_password_confirms_nothing(somebody: Somebody) -> None:
    somebody.register()
    token = somebody.link("confirm-email")
    refused = somebody.auth("confirm-email", token=token, password=OTHER_PASSWORD)
    assert (refused.status, refused.error) == (401, "invalid_credentials")
    assert somebody.auth("confirm-email", token=token, password=PASSWORD).status == 201


def test_the_password_beside_a_link_can_not_be_guessed_at_for_long(somebody: Somebody) -> None:
    somebody.register()
    token = somebody.link("confirm-email")
    tries = [somebody.auth("confirm-email", token=token, password=OTHER_PASSWORD) for _ in range(6)]
    assert [answer.status for answer in tries] == [401] * 5 + [429]
    assert int(tries[-1].headers["retry-after"]) >= 1


def test_a_link_is_good_once(somebody: Somebody) -> None:
    somebody.register()
    token = somebody.link("confirm-email")
    somebody.auth("confirm-email", token=token, password=PASSWORD)
    again = somebody.auth("confirm-email", token=token, password=PASSWORD)
    assert (again.status, again.error) == (400, "link_invalid")


def test_of_many_uses_of_one_link_at_once_one_succeeds(somebody: Somebody) -> None:
    somebody.register()
    token = somebody.link("confirm-email")
    with ThreadPoolExecutor(4) as pool:
        answers = list(
            pool.map(lambda _: somebody.auth("confirm-email", token=token, password=PASSWORD).status, range(4))
        )
    assert answers.count(201) == 1
    assert set(answers) <= {201, 400, 409}


def test_a_link_is_good_for_a_day(somebody: Somebody) -> None:
    somebody.register()
    token = somebody.link("confirm-email")
    with db.anonymous() as tx:
        row = tx.execute("SELECT * FROM letter_by_secret(sha256(%s::bytea))", (token.encode(),)).fetchone()
        assert row is not None
        db.become(tx, row["user_id"])
        left = tx.execute("SELECT extract(epoch FROM expires_at - now()) AS s FROM letters").fetchone()
        assert left is not None
        assert 86_000 < left["s"] <= 86_400
        tx.execute("UPDATE letters SET expires_at = now()")
    assert somebody.auth("confirm-email", token=token, password=PASSWORD).error == "link_invalid"


def test_a_link_for_one_thing_does_nothing_else(ada: Somebody) -> None:
    ada.auth("forgot-password", email=ada.email)
    token = ada.link("reset-password")
    assert ada.auth("confirm-email", token=token, password=PASSWORD).error == "link_invalid"


@pytest.mark.parametrize("token", ["", "x", "é" * 43, "a" * 43, "\x00", "' OR 1=1 --", "a" * 129])
def test_what_is_no_link_is_refused(somebody: Somebody, token: str) -> None:
    assert somebody.auth("confirm-email", token=token, password=PASSWORD).status == 400
    assert somebody.auth("reset-password", token=token, password=PASSWORD).status == 400


def test_registering_a_known_address_looks_the_same_and_sends_another_letter(ada: Somebody) -> None:
    again = replace(ada, password=OTHER_PASSWORD).register()
    assert (again.status, again.json) == (202, {"object": "accepted"})
    letters = ada.mail()
    assert [letter["Subject"] for letter in letters] == [
        "Runyard: Confirm your e-mail address",
        "Runyard: You have an account already",
    ]
    assert "#" not in letters[-1]["BodyText"]
    assert replace(ada, password=OTHER_PASSWORD).sign_in().error == "invalid_credentials"


def test_of_two_registrations_of_one_address_the_first_to_be_confirmed_wins(somebody: Somebody) -> None:
    somebody.register()
    first = somebody.link("confirm-email")
    replace(somebody, password=OTHER_PASSWORD).register()
    second = somebody.link("confirm-email")
    assert somebody.auth("confirm-email", token=second, password=OTHER_PASSWORD).status == 201
    late = somebody.auth("confirm-email", token=first, password=PASSWORD)
    assert (late.status, late.error) == (409, "email_taken")


def test_addresses_that_differ_in_case_are_one(ada: Somebody) -> None:
    ada.email = " Ada@EXAMPLE.org "
    assert ada.sign_in().status == 200


@pytest.mark.parametrize(
    "email", ["", "ada", "@example.org", "ada@", "ada@localhost", "a b@example.org", "a@b@c.org", "ada@exa\nmple.org"]
)
def test_what_is_no_address_is_refused(somebody: Somebody, email: str) -> None:
    somebody.email = email
    answer = somebody.register()
    assert (answer.status, answer.json["error"]["param"]) == (400, "email")


@pytest.mark.parametrize("name", ["", "  ", "Ada\r\nBcc: all@example.org", "a" * 101, "\u202e"])
def test_a_name_is_one_line_of_text(somebody: Somebody, name: str) -> None:
    somebody.name = name
    assert somebody.register().status == 400


@pytest.mark.parametrize(
    ("password", "why"),
    [
        ("short", "12 to 256"),
        ("x" * 257, "256"),
        ("password1234", "common"),
        ("Password1234", "common"),
        ("aaaaaaaaaaaaaaaa", "Repeats"),
        ("ada@example.org", "your e-mail"),
    ],
)
def test_a_password_that_would_be_guessed_first_is_refused_with_the_reason(
    somebody: Somebody, password: str, why: str
) -> None:
    somebody.password = password
    answer = somebody.register()
    assert answer.status == 400
    assert answer.json["error"]["param"] == "password"
    assert why in answer.json["error"]["message"]


def test_what_a_stranger_chooses_is_not_in_the_letter(somebody: Somebody) -> None:
    somebody.name = "Click http://evil.test"
    somebody.register()
    assert "evil" not in somebody.mail()[0]["BodyText"]


def test_nobodys_inbox_is_flooded(somebody: Somebody) -> None:
    answers = [somebody.register() for _ in range(6)]
    assert [answer.status for answer in answers] == [202] * 5 + [429]
    assert somebody.auth("forgot-password", email=somebody.email).error == "too_many_attempts"
    assert len(somebody.mail()) == 5


def test_a_letter_asked_for_twice_is_sent_once(somebody: Somebody) -> None:
    somebody.register()
    records = somebody.emulator.letters_asked_for()
    send_letters({"Records": records}, Context())
    send_letters({"Records": records}, Context())
    assert len(somebody.mail()) == 1


def test_a_letter_that_is_gone_by_now_is_passed_over(database: str) -> None:
    event = json.loads((EVENTS / "queues" / "send_letters.json").read_text())
    assert send_letters(event, Context()) == {"batchItemFailures": []}


def test_a_letter_that_ses_does_not_take_is_tried_again(somebody: Somebody, monkeypatch: pytest.MonkeyPatch) -> None:
    somebody.register()
    records = somebody.emulator.letters_asked_for()
    monkeypatch.setenv("RUNYARD_MAIL_FROM", "not-an-address")
    settings.forget()
    with pytest.raises(BatchProcessingError):
        send_letters({"Records": records}, Context())
    monkeypatch.setenv("RUNYARD_MAIL_FROM", "runyard@runyard.test")
    settings.forget()
    send_letters({"Records": records}, Context())
    assert len(somebody.mail()) == 1


def test_a_letter_that_could_not_be_sent_is_asked_for_again(somebody: Somebody, emulator: Emulator) -> None:
    somebody.register()
    emulator.letters_asked_for()  # the queue has lost it
    assert people.ask_for_unsent(timedelta(hours=1)) == 0
    assert people.ask_for_unsent(timedelta(0)) == 1
    assert len(somebody.mail()) == 1
    assert people.ask_for_unsent(timedelta(0)) == 0


def test_without_its_queue_registration_goes_on_and_the_letter_follows(
    somebody: Somebody, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUNYARD_MAIL_QUEUE", "gone")
    settings.forget()
    assert somebody.register().status == 202
    monkeypatch.setenv("RUNYARD_MAIL_QUEUE", "letters")
    settings.forget()
    assert people.ask_for_unsent(timedelta(0)) == 1
    assert len(somebody.mail()) == 1


def test_nothing_secret_is_logged_on_the_way(
    somebody: Somebody, logged: Callable[[], str], caplog: pytest.LogCaptureFixture
) -> None:
    # The AWS SDK writes down what it sends at its debug level, which no function turns on.
    caplog.set_level(logging.INFO, "botocore")
    somebody.register()
    token = somebody.link("confirm-email")
    somebody.tokens = somebody.auth("confirm-email", token=token, password=PASSWORD).json
    somebody.refresh()
    somebody.auth("confirm-email", token=token, password=OTHER_PASSWORD)
    somebody.auth("login", email=somebody.email, password=OTHER_PASSWORD)
    text = logged()
    secrets = [PASSWORD, OTHER_PASSWORD, token, somebody.tokens["refresh_token"], somebody.tokens["access_token"]]
    assert [secret for secret in secrets if secret in text] == []
