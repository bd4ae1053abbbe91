"""Identity providers that do as a test says, served over real HTTP: an OpenID issuer and GitHub."""

import base64
import hashlib
import json
import secrets
import time
import warnings
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from joserfc import jwt
from joserfc.errors import SecurityWarning
from joserfc.jwk import KeySet, RSAKey
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

CLIENT_ID, CLIENT_SECRET = "runyard-client", "a-client-secret-of-ours"
type Claims = dict[str, Any]
# Making one takes a while.
_KEY = RSAKey.generate_key(2048, {"kid": "one"})


def query(url: str) -> dict[str, str]:
    """The parameters of a URL, each of which occurs once."""
    found = parse_qs(urlsplit(url).query, strict_parsing=True)
    assert all(len(values) == 1 for values in found.values())
    return {name: values[0] for name, values in found.items()}


def redeemed(codes: dict[str, dict[str, str]], form: dict[str, str]) -> dict[str, str] | None:
    """The authorization request of a code, which is good once, if PKCE and the redirect URI hold."""
    asked = codes.pop(form["code"], None)
    digest = hashlib.sha256(form["code_verifier"].encode()).digest()
    challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
    if asked is None or asked["redirect_uri"] != form["redirect_uri"]:
        return None
    return asked if (asked["code_challenge_method"], asked["code_challenge"]) == ("S256", challenge) else None


@dataclass
class Issuer:
    """An OpenID issuer. What it says can be changed, and how it answers at a path be replaced."""

    url: str = ""
    claims: Claims = field(default_factory=lambda: {"sub": "1", "email": "ada@example.com", "email_verified": True})
    header: Claims = field(default_factory=lambda: {"alg": "RS256", "kid": "one"})
    key: Any = field(default_factory=lambda: _KEY)
    published: Any = None
    discovery: Claims = field(default_factory=dict)
    answers: dict[str, Callable[[], Response]] = field(default_factory=dict)
    # Has the last word on the text of an ID token.
    tamper: Callable[[str], str] = lambda text: text
    codes: dict[str, dict[str, str]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def consent(self, url: str) -> str:
        """Do as a browser in which somebody signs in and agrees; return the callback's query."""
        assert url.startswith(f"{self.url}/authorize?")
        code, request = secrets.token_urlsafe(), query(url)
        self.codes[code] = request
        return urlencode({"code": code, "state": request["state"]})

    def app(self) -> Starlette:
        routes = {
            "/.well-known/openid-configuration": self._discovery,
            "/jwks": self._jwks,
            "/token": self._token,
            "/userinfo": self._userinfo,
        }
        return Starlette(
            routes=[Route(path, self._answering(path, give), methods=["GET", "POST"]) for path, give in routes.items()]
        )

    def _answering(self, path: str, give: Any) -> Any:
        async def endpoint(request: Request) -> Response:
            self.asked.append(path)
            if path in self.answers:
                return self.answers[path]()
            answer: Response = await give(request)
            return answer

        return endpoint

    async def _discovery(self, request: Request) -> Response:
        document = {
            "issuer": self.url,
            "authorization_endpoint": f"{self.url}/authorize",
            "token_endpoint": f"{self.url}/token",
            "jwks_uri": f"{self.url}/jwks",
        }
        return JSONResponse(document | self.discovery)

    async def _jwks(self, request: Request) -> Response:
        return JSONResponse(self.published or KeySet([self.key]).as_dict(private=False))

    async def _token(self, request: Request) -> Response:
        basic = base64.b64encode(f"{CLIENT_ID}:{CLIENT_SECRET}".encode()).decode()
        assert request.headers["authorization"] == f"Basic {basic}"
        asked = redeemed(self.codes, query(f"?{(await request.body()).decode()}"))
        if asked is None:
            return JSONResponse({"error": "invalid_grant"}, 400)
        now = int(time.time())
        claims = {"iss": self.url, "aud": CLIENT_ID, "iat": now, "exp": now + 300, "nonce": asked["nonce"]}
        claims = {name: value for name, value in (claims | self.claims).items() if value is not None}
        with warnings.catch_warnings():
            # EdDSA goes by the name of its curve now (RFC 9864); issuers still say EdDSA.
            warnings.simplefilter("ignore", SecurityWarning)
            text = self.tamper(jwt.encode(self.header, claims, self.key, algorithms=[self.header["alg"]]))
        return JSONResponse({"access_token": "at", "token_type": "Bearer", "id_token": text})

    async def _userinfo(self, request: Request) -> Response:
        assert request.headers["authorization"] == "Bearer at"
        return JSONResponse({"sub": "1", "email": "info@example.com", "email_verified": True, "groups": ["ops"]})


@dataclass
class GitHub:
    """GitHub's part of its web application flow, in the shapes its documentation shows."""

    url: str = ""
    person: Claims = field(default_factory=lambda: {"id": 583231, "login": "octocat", "name": None})
    emails: list[Claims] = field(
        default_factory=lambda: [
            {"email": "old@example.com", "primary": False, "verified": True, "visibility": None},
            {"email": "Octo@Example.com", "primary": True, "verified": True, "visibility": "private"},
        ]
    )
    codes: dict[str, dict[str, str]] = field(default_factory=dict)

    def configuration(self) -> dict[str, str]:
        return {
            "client_id": CLIENT_ID,
            "client_secret": CLIENT_SECRET,
            "authorize_url": f"{self.url}/login/oauth/authorize",
            "token_url": f"{self.url}/login/oauth/access_token",
            "api_url": f"{self.url}/api",
        }

    def consent(self, url: str) -> str:
        """Do as a browser in which somebody signs in and agrees; return the callback's query."""
        assert url.startswith(f"{self.url}/login/oauth/authorize?")
        code, request = secrets.token_hex(10), query(url)
        self.codes[code] = request
        return urlencode({"code": code, "state": request["state"]})

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/login/oauth/access_token", self._token, methods=["POST"]),
                Route("/api/user", self._user),
                Route("/api/user/emails", self._user_emails),
            ]
        )

    async def _token(self, request: Request) -> Response:
        assert request.headers["accept"] == "application/json"
        form = query(f"?{(await request.body()).decode()}")
        assert (form["client_id"], form["client_secret"]) == (CLIENT_ID, CLIENT_SECRET)
        if redeemed(self.codes, form) is None:
            # GitHub reports errors with status 200.
            return JSONResponse({"error": "bad_verification_code", "error_description": "The code is incorrect."})
        return JSONResponse({"access_token": "gho_x", "scope": "read:user,user:email", "token_type": "bearer"})

    async def _user(self, request: Request) -> Response:
        return self._if_known(request, self.person)

    async def _user_emails(self, request: Request) -> Response:
        return self._if_known(request, self.emails)

    def _if_known(self, request: Request, answer: Any) -> Response:
        known = request.headers["authorization"] == "Bearer gho_x"
        return JSONResponse(answer if known else {"message": "Bad credentials"}, 200 if known else 401)


async def flood() -> AsyncIterator[bytes]:
    """A body of 4 MB."""
    for _ in range(64):
        yield b" " * 65_536


def claims_in(text: str) -> Claims:
    """The claims of a token, whoever signed it."""
    found: Claims = json.loads(base64.urlsafe_b64decode(text.split(".")[1] + "=="))
    return found


def unsigned(text: str) -> str:
    """The same claims as a token of the algorithm none."""
    header = base64.urlsafe_b64encode(json.dumps({"alg": "none"}).encode()).rstrip(b"=").decode()
    return f"{header}.{text.split('.')[1]}."
