"""What people try first, at the deployed home: register, invite, keys, a second factor, a stolen token, the trail."""

import json
from collections.abc import Iterator

import httpx
import pyotp
import pytest
from oidc_provider_mock import run_server_in_thread

from local import aws
from tests.e2e.deployed import Deployed
from tests.e2e.person import Person, letter_to
from tests.e2e.tenant import success
from tests.waiting import until


@pytest.fixture(scope="module")
def ada(home: Deployed) -> Person:
    return Person.register(home, "Ada")


def _second_org(home: Deployed, person: Person) -> str:
    """A second org of this person's, with room for colleagues, in which they now work."""
    made = person.post("/v1/orgs", {"name": "Engines"})
    org_id = str(made["org"]["id"])
    operator = home.client(aws.operator_key(home.home))
    success(operator.put(f"/v1/orgs/{org_id}/subscription", json={"plan": "team"}))
    person.work_in(org_id)
    return org_id


def test_a_person_registers_confirms_and_finds_their_org_with_the_plans_credits(ada: Person) -> None:
    me = ada.get("/v1/me")
    assert (me["email"], me["role"]) == (ada.email, "owner")
    assert ada.get("/v1/credits")["available_microusd"] == 5_000_000
    assert [org["role"] for org in ada.get("/v1/orgs")["data"]] == ["owner"]


def test_make_mail_shows_the_letter_with_its_link(home: Deployed, ada: Person) -> None:
    shown = home.command("mail").stdout
    assert ada.email in shown
    assert f"{home.home.public_url}/account#confirm-email=" in shown


def test_a_wrong_password_and_an_unknown_address_are_answered_alike(home: Deployed, ada: Person) -> None:
    wrong = home.client().post("/v1/auth/login", json={"email": ada.email, "password": "not the password"})
    unknown = home.client().post("/v1/auth/login", json={"email": "x@people.test", "password": "not the password"})
    answers = []
    for answer in (wrong, unknown):
        error = answer.json()["error"]
        answers.append((answer.status_code, error["code"], error["message"]))
    assert answers[0] == answers[1]
    assert answers[0][:2] == (401, "invalid_credentials")


def test_a_viewer_reads_and_does_not_write(home: Deployed) -> None:
    owner, viewer = Person.register(home, "Olive"), Person.register(home, "Vera")
    org_id = _second_org(home, owner)
    agent = owner.post("/v1/agents", {"name": "Analyst"})
    owner.post(f"/v1/orgs/{org_id}/invitations", {"email": viewer.email, "role": "viewer"})
    purpose, token = letter_to(home, viewer.email, after=1)
    assert purpose == "invitation"
    viewer.post("/v1/invitations/accept", {"token": token})
    viewer.work_in(org_id)
    assert viewer.get(f"/v1/agents/{agent['id']}")["name"] == "Analyst"
    refused = viewer.http.post("/v1/agents", json={"name": "Mine"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "insufficient_scope")
    # Out of the org, within the authorizer's five seconds.
    user_id = viewer.signed_in["user_id"]
    success(owner.http.delete(f"/v1/orgs/{org_id}/members/{user_id}"))
    until(lambda: viewer.http.get("/v1/agents").status_code == 401, "the viewer is out", within_s=6)


def test_a_key_with_two_scopes_is_rotated_and_revoked_within_five_seconds(home: Deployed, ada: Person) -> None:
    key = ada.post("/v1/api-keys", {"name": "CI", "scopes": ["agents:read", "runs:read"]})
    old = home.client(key["secret"])
    assert success(old.get("/v1/agents")).json()["data"] == ada.get("/v1/agents")["data"]
    assert old.post("/v1/agents", json={"name": "A"}).status_code == 403
    rotated = ada.post(f"/v1/api-keys/{key['id']}/rotate", {"overlap_s": 3600})
    new = home.client(rotated["secret"])
    assert sorted(rotated["scopes"]) == ["agents:read", "runs:read"]
    assert (new.get("/v1/agents").status_code, old.get("/v1/agents").status_code) == (200, 200)
    success(ada.http.delete(f"/v1/api-keys/{rotated['id']}"))
    until(lambda: new.get("/v1/agents").status_code == 401, "the key is refused", within_s=6)
    assert new.get("/v1/agents").json()["error"]["code"] == "api_key_revoked"


def test_a_second_factor_is_asked_for_once_it_is_on(home: Deployed) -> None:
    person = Person.register(home, "Theo")
    started = person.post("/v1/me/totp")
    codes = pyotp.TOTP(started["secret"])
    confirmed = person.post("/v1/me/totp/confirm", {"code": codes.now()})
    assert len(confirmed["recovery_codes"]) == 10
    asked = person.sign_in()
    assert (asked.status_code, asked.json()["error"]["code"]) == (401, "totp_required")
    assert person.sign_in(totp="000000").status_code == 401
    success(person.sign_in(recovery_code=confirmed["recovery_codes"][0]))
    assert person.sign_in(recovery_code=confirmed["recovery_codes"][0]).status_code in (401, 429)


def test_a_stolen_refresh_token_ends_the_session_for_thief_and_owner(home: Deployed) -> None:
    person = Person.register(home, "Rex")
    stolen = person.signed_in["refresh_token"]
    renewed = success(person.http.post("/v1/auth/refresh", json={"refresh_token": stolen})).json()
    again = person.http.post("/v1/auth/refresh", json={"refresh_token": stolen})
    assert (again.status_code, again.json()["error"]["code"]) == (401, "refresh_token_reused")
    newest = person.http.post("/v1/auth/refresh", json={"refresh_token": renewed["refresh_token"]})
    assert newest.status_code == 401
    with_token = home.client(renewed["access_token"])
    until(lambda: with_token.get("/v1/me").status_code == 401, "the access token is refused", within_s=6)
    assert with_token.get("/v1/me").json()["error"]["code"] == "session_ended"


def test_a_forgotten_password_is_set_anew_by_letter(home: Deployed) -> None:
    person = Person.register(home, "Fay")
    assert home.client().post("/v1/auth/forgot-password", json={"email": person.email}).status_code == 202
    purpose, token = letter_to(home, person.email, after=1)
    assert purpose == "reset-password"
    old, person.password = person.password, "a new and longer password"
    body = {"token": token, "password": person.password}
    success(home.client().post("/v1/auth/reset-password", json=body))
    assert home.client().post("/v1/auth/reset-password", json=body).status_code in (400, 401, 404)
    success(person.sign_in())
    body = {"email": person.email, "password": old}
    assert home.client().post("/v1/auth/login", json=body).status_code == 401


@pytest.fixture(scope="module")
def google(home: Deployed) -> Iterator[str]:
    """An OpenID Connect provider in Google's place."""
    with run_server_in_thread() as server:
        issuer = f"http://localhost:{server.server_port}"
        configured = {"google": {"client_id": "runyard", "client_secret": "secret", "issuer": issuer}}
        aws.client_of(home.home, "secretsmanager").put_secret_value(
            SecretId="runyard/local/oauth-clients", SecretString=json.dumps(configured)
        )
        yield issuer


def test_somebody_signs_in_with_google(home: Deployed, google: str) -> None:
    claims = {"email": "grace@people.test", "email_verified": True, "name": "Grace"}
    httpx.put(f"{google}/users/grace", json=claims, trust_env=False).raise_for_status()
    browser = home.client()
    started = browser.get("/v1/auth/oauth/google/start")
    assert started.status_code == 302
    with httpx.Client(trust_env=False) as elsewhere:
        agreed = elsewhere.post(started.headers["location"], data={"sub": "grace"})
    assert agreed.status_code == 302, agreed.text
    callback = agreed.headers["location"]
    assert callback.startswith(f"{home.home.public_url}/v1/auth/oauth/google/callback")
    # Another browser, without the cookie, gets nothing for it.
    assert home.client().get(callback).status_code in (400, 401, 403)
    started = browser.get("/v1/auth/oauth/google/start")
    with httpx.Client(trust_env=False) as elsewhere:
        callback = elsewhere.post(started.headers["location"], data={"sub": "grace"}).headers["location"]
    signed_in = success(browser.get(callback)).json()
    me = success(home.client(signed_in["access_token"]).get("/v1/me")).json()
    assert (me["email"], me["role"]) == ("grace@people.test", "owner")


def test_the_trail_of_all_that_is_read_and_exported(home: Deployed, ada: Person) -> None:
    actions = {event["action"] for event in ada.get("/v1/audit-events", limit=100)["data"]}
    assert actions >= {"org.create", "session.create", "api_key.create", "api_key.rotate", "api_key.revoke"}
    exported = success(ada.http.get("/v1/audit-events/export"))
    assert exported.headers["content-type"].startswith("application/x-ndjson")
    lines = [json.loads(line) for line in exported.text.splitlines()]
    assert {line.get("action") for line in lines} >= actions - {"audit.export"}
    assert all(secret not in exported.text for secret in (ada.password, ada.signed_in["refresh_token"]))
    verified = home.command("audit-verify")
    assert verified.returncode == 0, verified.stdout + verified.stderr
    assert verified.stdout.strip().splitlines()[-1].endswith("ok")
