"""Sign-in with Google, for which a real OpenID server process stands in: new people, known ones, replays."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from functions.api.billing import handler as billing
from shared.kernel import ids
from shared.quotas.plans import PLANS
from tests.api_gateway import Answer
from tests.integration.logins.conftest import Browser, OpenIdServer, audited, caller_of, registered
from tests.integration.logins.stand_ins import query

Call = Callable[..., Answer]
START = "oauth/google"


def test_somebody_new_gets_an_account_an_org_and_its_credits(
    call: Call, browser: Browser, google: OpenIdServer
) -> None:
    consent = google.knows("g-1", email="Grace@Example.com", email_verified=True, name="Grace")
    answer = browser.sign_in(START, consent)
    caller = caller_of(answer)
    assert (answer.json["object"], answer.json["token_type"]) == ("signed_in", "Bearer")
    assert (caller.role, caller.org_id) == ("owner", ids.read("org", answer.json["org_id"]))
    balance = call(billing, "GET", "/v1/credits", caller).json
    assert balance["available_microusd"] == PLANS["free"].included_credits_microusd
    assert {"org.create", "user.create", "session.create", "identity.create"} <= set(audited(caller))


def test_the_same_identity_is_the_same_person_whatever_its_address_is_now(
    browser: Browser, google: OpenIdServer
) -> None:
    first = browser.sign_in(START, google.knows("g-2", email="one@example.com", email_verified=True))
    again = browser.sign_in(START, google.knows("g-2", email="two@example.com", email_verified=False))
    assert again.json["user_id"] == first.json["user_id"]
    assert again.json["session_id"] != first.json["session_id"]


def test_a_verified_address_of_somebody_registered_links_to_their_account(
    browser: Browser, google: OpenIdServer
) -> None:
    ada = registered("ada@example.com")
    caller = caller_of(browser.sign_in(START, google.knows("g-3", email="ADA@example.com", email_verified=True)))
    assert (caller.person_id, caller.org_id) == (ada.person_id, ada.org_id)
    assert "identity.create" in audited(ada)


@pytest.mark.parametrize("claims", [{"email_verified": False}, {}, {"email_verified": "true"}, {"email": None}])
def test_an_address_that_is_not_vouched_for_neither_links_nor_registers(
    browser: Browser, google: OpenIdServer, claims: dict[str, object]
) -> None:
    registered("ada@example.com")
    for email in ("ada@example.com", "new@example.com"):
        answer = browser.sign_in(START, google.knows("g-4", **{"email": email, **claims}))
        assert (answer.status, answer.error) == (403, "email_not_verified")


def test_who_declines_is_not_signed_in_and_begins_again(browser: Browser, google: OpenIdServer) -> None:
    url = browser.start(START)
    declined = google.declines(url)
    assert browser.back(url, declined).error == "sign_in_refused"
    assert browser.back(url, declined).error == "login_state_invalid"


def test_a_state_is_good_once(browser: Browser, google: OpenIdServer) -> None:
    url = browser.start(START)
    came_with = google.knows("g-5", email="e@example.com", email_verified=True)(url)
    cookies = dict(browser.cookies)
    assert browser.back(url, came_with).status == 200
    browser.cookies = cookies
    assert (browser.back(url, came_with).status, browser.back(url, came_with).error) == (400, "login_state_invalid")


def test_of_many_callbacks_at_once_with_one_state_one_signs_in(browser: Browser, google: OpenIdServer) -> None:
    url = browser.start(START)
    came_with = google.knows("g-6", email="f@example.com", email_verified=True)(url)
    browsers = [Browser(browser.call, dict(browser.cookies)) for _ in range(6)]
    with ThreadPoolExecutor(len(browsers)) as at_once:
        found = [answer.status for answer in at_once.map(lambda each: each.back(url, came_with), browsers)]
    assert sorted(found) == [200, 400, 400, 400, 400, 400]


def test_somebody_new_in_two_browsers_at_once_is_one_person(
    browser: Browser, other_browser: Browser, google: OpenIdServer
) -> None:
    consent = google.knows("g-7", email="h@example.com", email_verified=True)
    begun = [(each, each.start(START)) for each in (browser, other_browser)]
    came_with = [consent(url) for _, url in begun]
    with ThreadPoolExecutor(len(begun)) as at_once:
        found = list(at_once.map(lambda one, query: one[0].back(one[1], query), begun, came_with))
    assert [answer.status for answer in found] == [200, 200]
    assert len({answer.json["user_id"] for answer in found}) == 1


def test_another_browser_can_not_finish_and_does_not_spend_what_this_one_began(
    browser: Browser, other_browser: Browser, google: OpenIdServer
) -> None:
    url = browser.start(START)
    came_with = google.knows("g-8", email="i@example.com", email_verified=True)(url)
    other_browser.start(START)
    assert other_browser.back(url, came_with).error == "login_state_invalid"
    other_browser.cookies.clear()
    assert other_browser.back(url, came_with).error == "login_state_invalid"
    assert browser.back(url, came_with).status == 200


def test_what_is_sent_along_is_fresh_and_the_cookie_is_out_of_scripts_reach(
    browser: Browser, google: OpenIdServer
) -> None:
    answer = browser.get("/v1/auth/oauth/google/start")
    asked, again = query(answer.headers["location"]), query(browser.start(START))
    assert (asked["response_type"], asked["code_challenge_method"]) == ("code", "S256")
    assert all(asked[name] != again[name] for name in ("state", "nonce", "code_challenge"))
    (cookie,) = answer.cookies
    assert {"HttpOnly", "SameSite=Lax", "Secure", "Path=/v1/auth"} <= set(cookie.split("; "))
    assert asked["state"] not in cookie
    assert answer.headers["cache-control"] == "no-store"


def test_one_address_begins_so_many_sign_ins_and_has_to_wait(browser: Browser, google: OpenIdServer) -> None:
    answers = [browser.get("/v1/auth/oauth/google/start") for _ in range(70)]
    statuses = [answer.status for answer in answers]
    assert statuses[:60] == [302] * 60
    assert statuses[-1] == 429
    assert (answers[-1].error, int(answers[-1].headers["retry-after"]) > 0) == ("too_many_attempts", True)


def test_nothing_of_a_sign_in_is_logged(browser: Browser, google: OpenIdServer, logged: Callable[[], str]) -> None:
    url = browser.start(START)
    came_with = google.knows("g-9", email="j@example.com", email_verified=True)(url)
    answer = browser.back(url, came_with)
    secrets = [answer.json["access_token"], answer.json["refresh_token"], "a-client-secret-of-ours"]
    ours = "\n".join(line for line in logged().splitlines() if "'name': 'botocore" not in line)
    assert [secret for secret in secrets if secret in ours] == []


def test_a_provider_that_is_not_set_up_is_not_found(browser: Browser, google: OpenIdServer) -> None:
    for provider in ("github", "facebook", "..%2f", "sso"):
        answer = browser.get(f"/v1/auth/oauth/{provider}/start")
        assert answer.status == 404, provider
    assert browser.get("/v1/auth/oauth/github/callback?code=x&state=y").error == "provider_not_configured"


def test_a_secret_without_json_configures_nothing(
    browser: Browser, configure: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    configure(google="nonsense")
    assert browser.get("/v1/auth/oauth/google/start").error == "provider_not_configured"
