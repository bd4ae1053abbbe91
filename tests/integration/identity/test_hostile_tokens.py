"""Hostile headers and tokens: each is refused with its own code, with nothing of it logged and no query made."""

import base64
import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from cryptography.hazmat.primitives import hashes, hmac, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from joserfc import jwt as jose
from joserfc.jwk import ECKey, RSAKey
from joserfc.jws import JWSRegistry

from functions import authorizer
from functions.api.account import handler as account
from shared.identity.model import KeySecret
from shared.kernel import clock, db, ids, settings
from shared.kernel.caller import Caller
from shared.kernel.errors import error_of_code
from shared.tokens import jwt, signing
from shared.tokens.model import claims_for
from tests import api_gateway
from tests.api_gateway import Context
from tests.emulator import Emulator
from tests.signed_in import Person, sign_in

_NOWHERE = "postgresql://nobody@127.0.0.1:9/none"


def encoded(value: bytes | dict[str, Any]) -> str:
    content = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


@dataclass(frozen=True)
class Forge:
    """Somebody who makes tokens: with the real key for what no forger could do, with their own for the rest."""

    person: Person
    key: ECKey
    own: ECKey

    def claims(self, **changed: Any) -> dict[str, Any]:
        """Good claims, with some changed; None takes one away."""
        claims = claims_for(
            issuer=settings.public_url(),
            user_id=self.person.user_id,
            session_id=self.person.session_id,
            org_id=self.person.org_id,
            now=clock.now(),
            token_id=ids.new(),
        )
        return {name: value for name, value in (claims | changed).items() if value is not None}

    def header(self, **changed: Any) -> dict[str, Any]:
        header = {"alg": "ES256", "kid": jwt.kid(self.key), "typ": "at+jwt"} | changed
        return {name: value for name, value in header.items() if value is not None}

    def token(self, claims: dict[str, Any] | bytes | None = None, **header: Any) -> str:
        """A token whose signature is that of the real key, whatever it says."""
        return self.signed(encoded(self.header(**header)), encoded(self.claims() if claims is None else claims))

    def signed(self, header: str, payload: str, key: ECKey | None = None) -> str:
        """These segments with a signature of ES256, as our own key makes it."""
        signature = JWSRegistry.algorithms["ES256"].sign(f"{header}.{payload}".encode(), key or self.key)
        return f"{header}.{payload}.{encoded(signature)}"

    def with_secret(self, secret: bytes) -> str:
        """A token signed with HS256 under a secret that everybody knows."""
        text = f"{encoded(self.header(alg='HS256'))}.{encoded(self.claims())}"
        mac = hmac.HMAC(secret, hashes.SHA256())
        mac.update(text.encode())
        return f"{text}.{encoded(mac.finalize())}"

    def seconds(self, ahead: int) -> int:
        return int((clock.now() + timedelta(seconds=ahead)).timestamp())

    @property
    def public_pem(self) -> bytes:
        public: ec.EllipticCurvePublicKey = self.key.public_key
        return public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def changed_at(text: str, segment: int, position: int) -> str:
    """The token with one character of a segment replaced by another."""
    parts = text.split(".")
    old = parts[segment]
    position %= len(old)
    parts[segment] = old[:position] + ("A" if old[position] != "A" else "B") + old[position + 1 :]
    return ".".join(parts)


def twice(forge: Forge, name: str, value: str) -> bytes:
    return json.dumps(forge.claims())[:-1].encode() + f', "{name}": "{value}"}}'.encode()


def rsa(forge: Forge) -> str:
    key = RSAKey.generate_key(2048)
    return jose.encode(forge.header(alg="RS256"), forge.claims(), key, algorithms=["RS256"])


def other_type(person: Person, prefix: str) -> str:
    return ids.show(prefix, person.user_id)


# Name -> the credential, and the code of its refusal. None of these makes the authorizer ask the database.
TOKENS: dict[str, tuple[Callable[[Forge], str], str]] = {
    "expired": (lambda f: f.token(f.claims(exp=f.seconds(-1), iat=f.seconds(-901))), "token_expired"),
    "expired long ago": (lambda f: f.token(f.claims(exp=1, iat=0, nbf=0)), "token_expired"),
    "nbf in the future": (lambda f: f.token(f.claims(nbf=f.seconds(60))), "token_not_yet_valid"),
    "iat in the future": (lambda f: f.token(f.claims(iat=f.seconds(60))), "token_not_yet_valid"),
    "without end": (lambda f: f.token(f.claims(exp=None)), "invalid_token"),
    "valid for years": (lambda f: f.token(f.claims(exp=f.seconds(10**8))), "invalid_token"),
    "end is infinite": (
        lambda f: f.token(json.dumps(f.claims(exp=float("inf"))).encode()),
        "invalid_token",
    ),
    "end is a text": (lambda f: f.token(f.claims(exp="9999999999")), "invalid_token"),
    "alg none, no signature": (
        lambda f: f"{encoded(f.header(alg='none'))}.{encoded(f.claims())}.",
        "token_algorithm_refused",
    ),
    "alg none": (lambda f: f.token(alg="none"), "token_algorithm_refused"),
    "alg NoNe": (lambda f: f.token(alg="NoNe"), "token_algorithm_refused"),
    "alg is a list": (lambda f: f.token(alg=["ES256"]), "token_algorithm_refused"),
    "no alg": (lambda f: f.token(alg=None), "token_algorithm_refused"),
    "HS256 with the public key in PEM": (lambda f: f.with_secret(f.public_pem), "token_algorithm_refused"),
    "HS256 with the public JWK": (
        lambda f: f.with_secret(json.dumps(jwt.public_jwk(f.key)).encode()),
        "token_algorithm_refused",
    ),
    "RS256 with a key of their own": (rsa, "token_algorithm_refused"),
    "ES384": (lambda f: f.token(alg="ES384"), "token_algorithm_refused"),
    "wrong audience": (lambda f: f.token(f.claims(aud="another-api")), "token_not_for_us"),
    "wrong issuer": (lambda f: f.token(f.claims(iss="https://evil.test")), "token_not_for_us"),
    "an ID token": (lambda f: f.token(typ="JWT"), "token_not_for_us"),
    "no type": (lambda f: f.token(typ=None), "token_not_for_us"),
    "no kid": (lambda f: f.token(kid=None), "token_key_unknown"),
    "kid of a path": (lambda f: f.token(kid="../../../../../../dev/null"), "token_key_unknown"),
    "kid of SQL": (lambda f: f.token(kid="' OR 1=1 --"), "token_key_unknown"),
    "kid with NUL": (lambda f: f.token(kid=jwt.kid(f.key) + "\x00"), "token_key_unknown"),
    "kid with a newline": (lambda f: f.token(kid=jwt.kid(f.key) + "\n"), "token_key_unknown"),
    "kid is a number": (lambda f: f.token(kid=1), "token_key_unknown"),
    "kid is an object": (lambda f: f.token(kid={"$ne": ""}), "token_key_unknown"),
    "our kid, another's signature": (
        lambda f: f.signed(encoded(f.header()), encoded(f.claims()), f.own),
        "invalid_token",
    ),
    "brings its key (jwk)": (
        lambda f: f.signed(encoded(f.header(jwk=jwt.public_jwk(f.own))), encoded(f.claims()), f.own),
        "invalid_token",
    ),
    "says where its key is (jku)": (lambda f: f.token(jku="https://evil.test/jwks.json"), "invalid_token"),
    "says where its certificate is (x5u)": (lambda f: f.token(x5u="https://evil.test/cert"), "invalid_token"),
    "brings its certificate (x5c)": (lambda f: f.token(x5c=["MIIB"]), "invalid_token"),
    "crit": (lambda f: f.token(crit=["b64"], b64=False), "invalid_token"),
    "crit of nothing": (lambda f: f.token(crit=[]), "invalid_token"),
    "an unknown header": (lambda f: f.token(zip="DEF"), "invalid_token"),
    "header names alg twice": (
        lambda f: f.signed(
            encoded(f'{{"alg":"none","alg":"ES256","kid":"{jwt.kid(f.key)}","typ":"at+jwt"}}'.encode()),
            encoded(f.claims()),
        ),
        "invalid_token",
    ),
    "a claim comes twice": (lambda f: f.token(twice(f, "org", ids.show("org", ids.new()))), "invalid_token"),
    "one character of the signature": (lambda f: changed_at(f.token(), 2, 10), "invalid_token"),
    "last character of the signature": (lambda f: changed_at(f.token(), 2, -1), "invalid_token"),
    "one character of the claims": (lambda f: changed_at(f.token(), 1, 60), "invalid_token"),
    "one character of the header": (lambda f: changed_at(f.token(), 0, 1), "invalid_token"),
    "signature of zeros": (
        lambda f: f"{encoded(f.header())}.{encoded(f.claims())}.{encoded(bytes(64))}",
        "invalid_token",
    ),
    "signature in DER": (
        lambda f: f"{encoded(f.header())}.{encoded(f.claims())}.{encoded(bytes([48, 6, 2, 1, 1, 2, 1, 1]))}",
        "invalid_token",
    ),
    "signature of another token": (
        lambda f: f"{f.token().rpartition('.')[0]}.{f.token(f.claims(jti='x')).rpartition('.')[2]}",
        "invalid_token",
    ),
    "header is no JSON": (lambda f: f.signed(encoded(b"{"), encoded(f.claims())), "invalid_token"),
    "header is a list": (lambda f: f.signed(encoded(b"[]"), encoded(f.claims())), "invalid_token"),
    "header is no UTF-8": (lambda f: f.signed(encoded(b"\xff\xfe{}"), encoded(f.claims())), "invalid_token"),
    "header nests deeply": (lambda f: f.signed(encoded(b"[" * 380), encoded(f.claims())), "invalid_token"),
    "header is very long": (lambda f: f.token(kid="k" * 1000), "invalid_token"),
    "claims are no JSON": (lambda f: f.token(b"{"), "invalid_token"),
    "claims are a list": (lambda f: f.token(b"[1]"), "invalid_token"),
    "claims are no UTF-8": (lambda f: f.token(b"\xff\xfe"), "invalid_token"),
    "claims nest deeply": (lambda f: f.token(b'{"a":' + b"[" * 2500), "invalid_token"),
    "no claims": (lambda f: f.token(b"{}"), "token_not_for_us"),
    "subject is a key": (lambda f: f.token(f.claims(sub=other_type(f.person, "key"))), "invalid_token"),
    "subject holds NUL": (lambda f: f.token(f.claims(sub="user_\x00" + "0" * 25)), "invalid_token"),
    "subject is SQL": (lambda f: f.token(f.claims(sub="user_' OR 1=1 --")), "invalid_token"),
    "no session": (lambda f: f.token(f.claims(sid=None)), "invalid_token"),
    "no org": (lambda f: f.token(f.claims(org=None)), "invalid_token"),
    "two segments": (lambda f: f.token().rpartition(".")[0], "invalid_token"),
    "four segments": (lambda f: f.token() + ".x", "invalid_token"),
    "encrypted": (lambda f: "eyJhbGciOiJkaXIifQ..x.y.z", "invalid_token"),
    "dots": (lambda f: "...", "invalid_token"),
    "one dot": (lambda f: ".", "invalid_token"),
    "a standard base64 alphabet": (lambda f: f.token(b'{"a": "\xc3\xbf\xc3\xbf"}').replace("_", "/"), "invalid_token"),
}

HEADERS: dict[str, tuple[Callable[[str], str | None], str]] = {
    "nothing": (lambda good: None, "invalid_api_key"),
    "empty": (lambda good: "", "invalid_api_key"),
    "blank": (lambda good: "  ", "invalid_api_key"),
    "what the edge puts in for nothing": (lambda good: "none", "invalid_api_key"),
    "only the scheme": (lambda good: "Bearer", "malformed_authorization"),
    "scheme and blank": (lambda good: "Bearer ", "malformed_authorization"),
    "no scheme": (lambda good: good, "malformed_authorization"),
    "another scheme": (lambda good: f"Basic {good}", "malformed_authorization"),
    "scheme twice": (lambda good: f"Bearer Bearer {good}", "malformed_authorization"),
    "two credentials": (lambda good: f"Bearer {good} {good}", "malformed_authorization"),
    "two headers": (lambda good: f"Bearer {good},Bearer {good}", "malformed_authorization"),
    "a good one after another's": (lambda good: f"Bearer x, Bearer {good}", "malformed_authorization"),
    "newline at the end": (lambda good: f"Bearer {good}\n", "malformed_authorization"),
    "a header within": (lambda good: f"Bearer {good}\r\nX-Admin: 1", "malformed_authorization"),
    "NUL": (lambda good: f"Bearer {good}\x00", "malformed_authorization"),
    "tab": (lambda good: f"Bearer\t{good}", "malformed_authorization"),
    "beyond ASCII": (lambda good: f"Bearer {good}é", "malformed_authorization"),
    "wide letters": (lambda good: f"Ｂearer {good}", "malformed_authorization"),
    "a megabyte": (lambda good: f"Bearer {good}{'x' * 1_000_000}", "malformed_authorization"),
    "a megabyte of dots": (lambda good: "Bearer " + "." * 1_000_000, "malformed_authorization"),
    "a little too long": (lambda good: "Bearer " + "a" * 4090, "malformed_authorization"),
    "no key": (lambda good: "Bearer none", "invalid_api_key"),
    "a mistyped key": (lambda good: "Bearer ry_live_" + "a" * 32, "invalid_api_key"),
}


@pytest.fixture
def forge(emulator: Emulator, org: Caller) -> Forge:
    person = sign_in(org)
    assert admitted(f"Bearer {person.token()}")["org_id"] == str(org.org_id)
    return Forge(person, signing._signer(), jwt.generate())


@contextmanager
def without_database() -> Iterator[None]:
    """Within, a query would fail and the refusal be `unavailable`."""
    db.close()
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("RUNYARD_DATABASE_URL", _NOWHERE)
        settings.database.cache_clear()
        try:
            yield
        finally:
            db.close()
            settings.database.cache_clear()


def admitted(header: str | None) -> dict[str, str]:
    """What the authorizer hands to API Gateway."""
    headers = {} if header is None else {"authorization": header}
    context: dict[str, str] = authorizer.handler({"headers": headers}, Context())["context"]
    return context


def refusal(header: str | None) -> str:
    """The code of a refusal: the authorizer's to both APIs, and the API's own to the client."""
    context = admitted(header)
    event = api_gateway.request("GET", "/v1/me", None)
    event["requestContext"]["authorizer"] = {"lambda": context}
    answer = account(event, Context())
    error = json.loads(answer["body"])["error"]
    headers = {"Authorization": header} if header else {}
    policy = authorizer.websocket_handler({"headers": headers, "methodArn": "arn:x"}, Context())
    assert policy["policyDocument"]["Statement"][0]["Effect"] == "Deny"
    assert answer["statusCode"] == 401
    assert context["refused_as"] == error["code"]
    assert not shown(header, answer["body"])
    return str(error["code"])


def shown(header: str | None, where: str) -> list[str]:
    """What of a header is to be read somewhere: any credential in it, any segment of a token."""
    parts = (header or "").replace(",", " ").split()
    secrets = [*parts, *(segment for part in parts for segment in part.split("."))]
    return [secret for secret in secrets if len(secret) > 20 and secret[:200] in where]


def assert_each_refused(headers: Mapping[str, str | None], expected: dict[str, str], logged: Callable[[], str]) -> None:
    with without_database():
        assert {name: refusal(header) for name, header in headers.items()} == expected
    everything = logged()
    assert {name: found for name, header in headers.items() if (found := shown(header, everything))} == {}


def test_each_hostile_token_is_refused_with_its_code_unlogged_and_without_a_query(
    forge: Forge, logged: Callable[[], str]
) -> None:
    headers = {name: f"Bearer {make(forge)}" for name, (make, _) in TOKENS.items()}
    assert_each_refused(headers, {name: code for name, (_, code) in TOKENS.items()}, logged)


def test_each_hostile_header_is_refused_with_its_code_unlogged_and_without_a_query(
    forge: Forge, logged: Callable[[], str]
) -> None:
    good = forge.token()
    headers = {name: make(good) for name, (make, _) in HEADERS.items()}
    assert_each_refused(headers, {name: code for name, (_, code) in HEADERS.items()}, logged)


def test_the_forge_makes_tokens_that_are_good_when_nothing_is_wrong_with_them(forge: Forge) -> None:
    assert admitted(f"Bearer {forge.token()}")["person_id"] == str(forge.person.user_id)
    assert admitted(f"bearer   {forge.token()}")["person_id"] == str(forge.person.user_id)


def test_every_code_of_a_refusal_is_an_error_that_the_documents_explain() -> None:
    codes = {code for _, code in [*TOKENS.values(), *HEADERS.values()]}
    assert all(error_of_code(code) for code in codes)
    assert len(codes) == 8


def test_unknown_keys_are_looked_up_once_in_five_seconds_at_most(forge: Forge) -> None:
    def unknown() -> str:
        key = ECKey.generate_key("P-256", auto_kid=True)
        return f"Bearer {forge.signed(encoded(forge.header(kid=key.kid)), encoded(forge.claims()), key)}"

    assert admitted(unknown())["refused_as"] == "token_key_unknown"
    with without_database():
        assert {admitted(unknown())["refused_as"] for _ in range(20)} == {"token_key_unknown"}
        with pytest.MonkeyPatch.context() as patched:
            now = time.monotonic() + 5
            patched.setattr(time, "monotonic", lambda: now)
            assert admitted(unknown())["refused_as"] == "unavailable"


def test_a_key_of_another_installation_is_unknown_here(forge: Forge) -> None:
    stranger = ECKey.generate_key("P-256", auto_kid=True)
    token = jose.encode(forge.header(kid=stranger.kid), forge.claims(), stranger, algorithms=["ES256"])
    assert admitted(f"Bearer {token}")["refused_as"] == "token_key_unknown"


def test_a_websocket_with_two_authorization_headers_is_denied(forge: Forge) -> None:
    good = f"Bearer {forge.token()}"

    def effect(values: list[str]) -> str:
        event = {"headers": {"Authorization": values[-1]}, "multiValueHeaders": {"Authorization": values}}
        answer = authorizer.websocket_handler(event | {"methodArn": "arn:x"}, Context())
        return str(answer["policyDocument"]["Statement"][0]["Effect"])

    assert effect([good]) == "Allow"
    assert effect([good, good]) == "Deny"
    assert effect([f"Bearer {KeySecret.generate().text}", good]) == "Deny"


def test_two_headers_that_differ_in_case_alone_are_two(forge: Forge) -> None:
    good = f"Bearer {forge.token()}"
    answer = authorizer.handler({"headers": {"Authorization": good, "authorization": good}}, Context())
    assert answer["context"]["refused_as"] == "malformed_authorization"


def test_another_orgs_id_in_a_good_token_is_no_way_into_it(forge: Forge, rival: Caller) -> None:
    def code(**changed: Any) -> str:
        return admitted(f"Bearer {forge.token(forge.claims(**changed))}")["refused_as"]

    def other(prefix: str, value: UUID) -> str:
        return ids.show(prefix, value)

    stranger = sign_in(rival)
    assert code(org=other("org", rival.org_id)) == "session_ended"
    assert code(org=other("org", ids.new())) == "session_ended"
    assert code(sub=other("user", stranger.user_id)) == "session_ended"
    assert code(sid=other("ses", stranger.session_id)) == "session_ended"
