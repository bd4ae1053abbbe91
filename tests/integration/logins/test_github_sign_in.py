"""Sign-in with GitHub, which has no ID token: who signed in is asked of its API."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.integration.logins.conftest import Browser, OpenIdServer, caller_of, registered
from tests.integration.logins.stand_ins import CLIENT_ID, CLIENT_SECRET, GitHub, Issuer, query

START = "oauth/github"


@pytest.fixture(autouse=True)
def known_to_github(configure: Callable[..., None], github: GitHub) -> None:
    configure(github=github.configuration())


def test_the_primary_address_stands_for_somebody_if_it_is_verified(browser: Browser, github: GitHub) -> None:
    octo = registered("octo@example.com")
    assert caller_of(browser.sign_in(START, github.consent)).person_id == octo.person_id


def test_the_number_is_who_it_is_not_the_name(browser: Browser, github: GitHub) -> None:
    first = caller_of(browser.sign_in(START, github.consent))
    github.person = {"id": 1, "login": "octocat", "name": "Somebody else"}
    github.emails = [{"email": "else@example.com", "primary": True, "verified": True}]
    assert caller_of(browser.sign_in(START, github.consent)).person_id != first.person_id


@pytest.mark.parametrize(
    "emails", [[], [{"email": "octo@example.com", "primary": True, "verified": False}], {"message": "no"}, [None, 1]]
)
def test_without_a_verified_primary_address_nobody_gets_in(browser: Browser, github: GitHub, emails: Any) -> None:
    registered("octo@example.com")
    github.emails = emails
    assert browser.sign_in(START, github.consent).error == "email_not_verified"


@pytest.mark.parametrize("person", [{}, {"id": "583231"}, {"id": True}, [], None])
def test_an_answer_that_names_nobody_signs_nobody_in(browser: Browser, github: GitHub, person: Any) -> None:
    github.person = person
    assert (browser.sign_in(START, github.consent).error) == "identity_provider_failed"


def test_a_code_of_another_sign_in_is_refused_since_its_challenge_does_not_fit(
    browser: Browser, other_browser: Browser, github: GitHub
) -> None:
    theirs = query(f"x?{github.consent(other_browser.start(START))}")["code"]
    url = browser.start(START)
    assert browser.back(url, f"code={theirs}&state={query(url)['state']}").error == "code_refused"


def test_one_providers_state_is_of_no_use_at_anothers_callback(
    browser: Browser, github: GitHub, openid_server: OpenIdServer, configure: Callable[..., None]
) -> None:
    google = {"client_id": CLIENT_ID, "client_secret": CLIENT_SECRET, "issuer": openid_server.url}
    configure(github=github.configuration(), google=google)
    came_with = github.consent(browser.start(START))
    mixed_up = browser.get(f"/v1/auth/oauth/google/callback?{came_with}")
    assert (mixed_up.status, mixed_up.error) == (400, "login_state_invalid")


def test_one_subject_at_two_issuers_is_two_identities(
    browser: Browser, github: GitHub, issuer: Issuer, configure: Callable[..., None]
) -> None:
    google = {"client_id": CLIENT_ID, "client_secret": CLIENT_SECRET, "issuer": issuer.url}
    configure(github=github.configuration(), google=google)
    at_github = caller_of(browser.sign_in(START, github.consent))
    issuer.claims |= {"sub": str(github.person["id"])}
    assert caller_of(browser.sign_in("oauth/google", issuer.consent)).person_id != at_github.person_id
