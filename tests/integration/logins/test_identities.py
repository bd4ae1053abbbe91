"""A person's identities: listed, added on purpose, removed but for the last way in."""

from collections.abc import Callable

import pytest

from functions.api.logins import handler as logins
from shared.kernel import db, ids
from shared.kernel.caller import Caller
from shared.people import service as people
from tests.api_gateway import Answer
from tests.integration.logins.conftest import Browser, OpenIdServer, audited, caller_of, registered

Call = Callable[..., Answer]
START = "/v1/me/identities/google/start"


@pytest.fixture
def ada(browser: Browser) -> Caller:
    return registered("ada@example.com")


def identities(call: Call, caller: Caller) -> list[dict[str, str]]:
    found: list[dict[str, str]] = call(logins, "GET", "/v1/me/identities", caller).json["data"]
    return found


def begin(browser: Browser, caller: Caller) -> str:
    """Begin to add an identity; return where the browser is sent."""
    answer = browser.post(START, caller)
    assert answer.status == 200, answer.text
    return str(answer.json["authorization_url"])


def test_an_identity_of_another_address_is_added_by_who_is_signed_in(
    call: Call, browser: Browser, google: OpenIdServer, ada: Caller
) -> None:
    consent = google.knows("i-1", email="elsewhere@example.com", email_verified=True)
    url = begin(browser, ada)
    assert caller_of(browser.back(url, consent(url))).person_id == ada.person_id
    (identity,) = identities(call, ada)
    assert (identity["issuer"], identity["subject"], identity["email"]) == (google.url, "i-1", "elsewhere@example.com")
    assert caller_of(browser.sign_in("oauth/google", consent)).person_id == ada.person_id


def test_an_identity_that_is_anothers_can_not_be_added(
    call: Call, browser: Browser, google: OpenIdServer, ada: Caller
) -> None:
    consent = google.knows("i-2", email="bea@example.com", email_verified=True)
    caller_of(browser.sign_in("oauth/google", consent))
    url = begin(browser, ada)
    answer = browser.back(url, consent(url))
    assert (answer.status, answer.error) == (409, "identity_taken")
    assert identities(call, ada) == []


def test_an_identity_with_no_verified_address_can_not_be_added(
    call: Call, browser: Browser, google: OpenIdServer, ada: Caller
) -> None:
    consent = google.knows("i-3", email="x@example.com", email_verified=False)
    url = begin(browser, ada)
    assert browser.back(url, consent(url)).error == "email_not_verified"


def test_whoever_is_sent_the_link_does_not_give_their_identity_away(
    browser: Browser, other_browser: Browser, google: OpenIdServer, ada: Caller
) -> None:
    url = begin(browser, ada)
    came_with = google.knows("i-4", email="victim@example.com", email_verified=True)(url)
    assert other_browser.back(url, came_with).error == "login_state_invalid"


def test_an_addition_begun_in_a_session_that_has_ended_is_not_finished(
    browser: Browser, google: OpenIdServer, ada: Caller
) -> None:
    url = begin(browser, ada)
    assert ada.session_id is not None
    with db.tenant(ada) as tx:
        people.end_session(tx, ada, ada.session_id)
    consent = google.knows("i-5", email="thief@example.com", email_verified=True)
    assert browser.back(url, consent(url)).error == "session_ended"


def test_the_same_request_again_does_not_show_the_address_again(
    browser: Browser, google: OpenIdServer, ada: Caller
) -> None:
    first = browser.post(START, ada, headers={"Idempotency-Key": "one"})
    again = browser.post(START, ada, headers={"Idempotency-Key": "one"})
    assert first.json["authorization_url"]
    assert again.headers["idempotency-replayed"] == "true"
    assert "authorization_url" not in again.json


def test_with_a_password_the_last_identity_may_go(
    call: Call, browser: Browser, google: OpenIdServer, ada: Caller
) -> None:
    caller_of(browser.sign_in("oauth/google", google.knows("i-6", email="ada@example.com", email_verified=True)))
    (identity,) = identities(call, ada)
    removed = call(logins, "DELETE", f"/v1/me/identities/{identity['id']}", ada)
    assert (removed.status, removed.json) == (200, identity)
    assert identities(call, ada) == []
    assert "identity.delete" in audited(ada)


def test_without_a_password_one_identity_stays(call: Call, browser: Browser, google: OpenIdServer) -> None:
    bea = caller_of(browser.sign_in("oauth/google", google.knows("i-7", email="bea@example.com", email_verified=True)))
    url = begin(browser, bea)
    caller_of(browser.back(url, google.knows("i-8", email="bea2@example.com", email_verified=True)(url)))
    newer, older = identities(call, bea)
    assert call(logins, "DELETE", f"/v1/me/identities/{newer['id']}", bea).status == 200
    last = call(logins, "DELETE", f"/v1/me/identities/{older['id']}", bea)
    assert (last.status, last.error) == (409, "last_way_in")
    assert [each["id"] for each in identities(call, bea)] == [older["id"]]


def test_anothers_identities_do_not_exist(call: Call, browser: Browser, google: OpenIdServer, ada: Caller) -> None:
    bea = caller_of(browser.sign_in("oauth/google", google.knows("i-9", email="bea@example.com", email_verified=True)))
    (identity,) = identities(call, bea)
    assert identities(call, ada) == []
    assert call(logins, "DELETE", f"/v1/me/identities/{identity['id']}", ada).status == 404
    assert call(logins, "DELETE", f"/v1/me/identities/{ids.show('idn', ids.new())}", ada).status == 404


def test_identities_come_in_pages(call: Call, browser: Browser, google: OpenIdServer, ada: Caller) -> None:
    for number in range(3):
        url = begin(browser, ada)
        consent = google.knows(f"p-{number}", email=f"p{number}@example.com", email_verified=True)
        caller_of(browser.back(url, consent(url)))
    first = call(logins, "GET", "/v1/me/identities?limit=2", ada).json
    rest = call(logins, "GET", f"/v1/me/identities?limit=2&cursor={first['next_cursor']}", ada).json
    assert [each["subject"] for each in first["data"] + rest["data"]] == ["p-2", "p-1", "p-0"]
    assert rest["has_more"] is False


def test_an_api_key_has_no_identities(call: Call, org: Caller, google: OpenIdServer) -> None:
    assert call(logins, "GET", "/v1/me/identities", org).error == "insufficient_scope"
    assert call(logins, "POST", START, org).error == "insufficient_scope"
