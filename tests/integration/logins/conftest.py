"""A browser, and the providers it signs in with: a real OpenID server process, and stand-ins for hostile ones."""

import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import quote, urlsplit
from uuid import UUID, uuid4

import httpx
import pytest

from functions import authorizer
from functions.api.logins import handler as logins
from shared.identity.policy import Role, scopes_of
from shared.kernel import db, ids, settings
from shared.kernel.caller import Caller
from shared.logins import oidc_client
from shared.orgs import service as orgs
from shared.people import service as people
from tests.api_gateway import Answer, Context
from tests.emulator import Emulator
from tests.http_server import listening
from tests.integration.logins.stand_ins import CLIENT_ID, CLIENT_SECRET, GitHub, Issuer


@dataclass
class Browser:
    """Goes where it is sent, and brings back the cookies it was given."""

    call: Callable[..., Answer]
    cookies: dict[str, str] = field(default_factory=dict)

    def get(self, path: str) -> Answer:
        cookies = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        return self._kept(self.call(logins, "GET", path, headers={"cookie": cookies} if cookies else {}))

    def post(self, path: str, caller: Caller, **options: Any) -> Answer:
        return self._kept(self.call(logins, "POST", path, caller, **options))

    def start(self, path: str) -> str:
        """Begin a sign-in; return where the browser is sent."""
        answer = self.get(f"/v1/auth/{path}/start")
        assert answer.status == 302, answer.text
        return answer.headers["location"]

    def back(self, url: str, query: str) -> Answer:
        """Come back to the redirect URI that was named in the URL the browser was sent to."""
        callback = urlsplit(httpx.URL(url).params["redirect_uri"])
        assert (callback.scheme, callback.netloc) == ("https", "runyard.test")
        return self.get(f"{callback.path}?{query}")

    def sign_in(self, path: str, consent: Callable[[str], str]) -> Answer:
        url = self.start(path)
        return self.back(url, consent(url))

    def _kept(self, answer: Answer) -> Answer:
        for cookie in answer.cookies:
            name, _, value = cookie.partition(";")[0].partition("=")
            self.cookies[name] = value
        return answer


@dataclass(frozen=True)
class OpenIdServer:
    """A running `oidc-provider-mock`."""

    url: str

    def knows(self, subject: str, **claims: Any) -> Callable[[str], str]:
        """Make somebody known there; return how they sign in and agree, in a browser."""
        httpx.put(f"{self.url}/users/{quote(subject)}", json=claims, trust_env=False).raise_for_status()

        def consent(url: str) -> str:
            assert url.startswith(f"{self.url}/oauth2/authorize?")
            answer = httpx.post(url, data={"sub": subject}, trust_env=False)
            assert answer.status_code == 302, answer.text
            return urlsplit(answer.headers["location"]).query

        return consent

    def declines(self, url: str) -> str:
        answer = httpx.post(url, data={"action": "deny"}, trust_env=False)
        return urlsplit(answer.headers["location"]).query


@pytest.fixture(scope="session")
def openid_server() -> Iterator[OpenIdServer]:
    """A real OpenID provider in a process of its own."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "oidc_provider_mock", "--port", str(port), "--require-nonce", "true"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url, deadline = f"http://127.0.0.1:{port}", time.monotonic() + 30
    try:
        while not _answers(url):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield OpenIdServer(url)
    finally:
        process.terminate()
        process.wait(10)


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/jwks", trust_env=False, timeout=1).is_success
    except httpx.TransportError:
        return False


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    """An issuer that does as the test says."""
    found = Issuer()
    with listening(found.app()) as found.url:
        yield found


@pytest.fixture
def github() -> Iterator[GitHub]:
    found = GitHub()
    with listening(found.app()) as found.url:
        yield found


@pytest.fixture
def configure(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """`configure(google=…, github=…)`: store how these providers know us."""

    def store(**clients: Any) -> None:
        manager = emulator.client("secretsmanager")
        arn = manager.create_secret(Name=f"clients-{uuid4()}", SecretString=json.dumps(clients))["ARN"]
        monkeypatch.setenv("RUNYARD_OAUTH_SECRET_ARN", arn)
        settings.forget()

    oidc_client.forget()
    return store


@pytest.fixture
def google(configure: Callable[..., None], openid_server: OpenIdServer) -> OpenIdServer:
    """Google, for whom the OpenID server stands in."""
    configure(google=_client(openid_server.url))
    return openid_server


@pytest.fixture
def hostile(configure: Callable[..., None], issuer: Issuer) -> Issuer:
    """Google again, but it does as the test says."""
    configure(google=_client(issuer.url))
    return issuer


@pytest.fixture
def browser(call: Callable[..., Answer], emulator: Emulator) -> Browser:
    return Browser(call)


@pytest.fixture
def other_browser(call: Callable[..., Answer], emulator: Emulator) -> Browser:
    return Browser(call)


def _client(url: str) -> dict[str, str]:
    return {"client_id": CLIENT_ID, "client_secret": CLIENT_SECRET, "issuer": url}


def caller_of(answer: Answer) -> Caller:
    """Whom the authorizer takes the bearer of a sign-in's access token for."""
    assert answer.status == 200, answer.text
    header = {"authorization": f"Bearer {answer.json['access_token']}"}
    return replace(Caller.from_context(authorizer.handler({"headers": header}, Context())["context"]), rates="")


def registered(email: str, *, name: str = "Ada", password_hash: str | None = "$argon2id$unused") -> Caller:
    """Somebody registered and signed in, in the org of their own."""
    user_id = ids.new()
    with db.anonymous() as tx:
        people.create_person(
            tx, user_id=user_id, email=email, name=name, password_hash=password_hash, request_id="test", ip=""
        )
        opened = people.open_session(
            tx, user_id=user_id, org_id=None, method="test", ip="", user_agent="", request_id="test"
        )
    return Caller(
        org_id=opened.session.org_id,
        actor_id=ids.show("user", user_id),
        role="owner",
        scopes=scopes_of(Role.OWNER),
        plan="free",
        request_id="test",
        person_id=user_id,
        session_id=opened.session.id,
    )


def slug_of(caller: Caller) -> str:
    with db.tenant(caller) as tx:
        return orgs.get_org(tx, caller.org_id).slug


def role_in(owner: Caller, user_id: UUID | None) -> Role | None:
    """The role of a person in the owner's org."""
    assert user_id is not None
    with db.tenant(owner) as tx:
        return orgs.role_of(tx, user_id)


def put_sso(call: Callable[..., Answer], owner: Caller, issuer: str, **more: Any) -> Answer:
    """Let the org of the owner trust this issuer."""
    body = {"issuer": issuer, "client_id": CLIENT_ID, "client_secret": CLIENT_SECRET, **more}
    return call(logins, "PUT", f"/v1/orgs/{ids.show('org', owner.org_id)}/sso", owner, json=body)


def audited(caller: Caller) -> list[str]:
    """The actions in the trail of the caller's org, oldest first."""
    with db.tenant(caller) as tx:
        return [row["action"] for row in tx.execute("SELECT action FROM audit_events ORDER BY id")]
