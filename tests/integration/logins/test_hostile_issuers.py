"""An issuer is trusted with no more than its word: forged tokens, redirects, floods, slowness, inner addresses."""

import asyncio
import base64
import json
import socket
import time
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet, OctKey, OKPKey, RSAKey
from starlette.responses import JSONResponse, RedirectResponse, Response, StreamingResponse

from shared.kernel import settings
from shared.kernel.caller import Caller
from tests.api_gateway import Answer
from tests.integration.logins.conftest import Browser, caller_of, put_sso, registered
from tests.integration.logins.stand_ins import CLIENT_ID, CLIENT_SECRET, Issuer, claims_in, flood, query, unsigned

Call = Callable[..., Answer]
START = "oauth/google"


def test_the_stand_in_signs_in_when_all_is_well(browser: Browser, hostile: Issuer) -> None:
    caller_of(browser.sign_in(START, hostile.consent))


# Moments are counted from when they are sent.
_CLAIMS_THAT_DO_NOT_HOLD: list[dict[str, Any]] = [
    {"iss": "https://evil.example"},
    {"iss": None},
    {"aud": "somebody-else"},
    {"aud": ["somebody-else", CLIENT_ID]},
    {"aud": ["somebody-else", CLIENT_ID], "azp": "somebody-else"},
    {"aud": CLIENT_ID, "azp": "somebody-else"},
    {"aud": None},
    {"exp": timedelta(seconds=-60)},
    {"exp": None},
    {"exp": "tomorrow"},
    {"nbf": timedelta(seconds=600)},
    {"iat": timedelta(seconds=600)},
    {"nonce": "another-sign-in's"},
    {"nonce": None},
    {"nonce": ["x"]},
    {"sub": None},
    {"sub": ""},
    {"sub": 1},
    {"sub": "x" * 256},
    {"sub": "a\x00b"},
    {"at_hash": "AAAAAAAAAAAAAAAAAAAAAA"},
    {"pad": "x" * 20_000},
]


def test_an_id_token_whose_claims_do_not_hold_is_refused(browser: Browser, hostile: Issuer) -> None:
    proper = dict(hostile.claims)
    for claims in _CLAIMS_THAT_DO_NOT_HOLD:
        hostile.claims = proper | {name: _from_now(value) for name, value in claims.items()}
        answer = browser.sign_in(START, hostile.consent)
        assert (answer.status, answer.error) == (401, "id_token_refused"), str(claims)[:80]


def _from_now(value: Any) -> Any:
    return int(time.time() + value.total_seconds()) if isinstance(value, timedelta) else value


def _signed_with_our_secret(text: str) -> str:
    return jwt.encode({"alg": "HS256", "kid": "one"}, claims_in(text), OctKey.import_key(CLIENT_SECRET))


def _signed_by_another(text: str) -> str:
    return jwt.encode({"alg": "RS256", "kid": "one"}, claims_in(text), RSAKey.generate_key(2048))


def _bringing_its_own_key(text: str) -> str:
    key = RSAKey.generate_key(2048)
    return jwt.encode({"alg": "RS256", "kid": "one", "jwk": key.as_dict(private=False)}, claims_in(text), key)


def _resigned(hostile: Issuer, header: dict[str, Any]) -> Callable[[str], str]:
    """Sign the same claims with the right key, under a header that asks for something more."""

    def sign(text: str) -> str:
        protected = json.dumps({"alg": "RS256", "kid": "one", **header}).encode()
        signed = f"{base64.urlsafe_b64encode(protected).decode().rstrip('=')}.{text.split('.')[1]}"
        signature = hostile.key.get_op_key("sign").sign(signed.encode(), PKCS1v15(), SHA256())
        return f"{signed}.{base64.urlsafe_b64encode(signature).decode().rstrip('=')}"

    return sign


_FORGERIES: list[Callable[[str], str]] = [
    unsigned,
    _signed_with_our_secret,
    _signed_by_another,
    _bringing_its_own_key,
    lambda text: text[:-8] + "AAAAAAAA",
    lambda text: text.rpartition(".")[0] + ".",
    lambda text: "." * 3,
    lambda text: "",
    lambda text: "no token \u2603",
    lambda text: text + "." + text,
]


def test_an_id_token_with_no_good_signature_is_refused(browser: Browser, hostile: Issuer) -> None:
    for number, hostile.tamper in enumerate(_FORGERIES):
        assert browser.sign_in(START, hostile.consent).error == "id_token_refused", number


def test_the_right_key_under_a_plain_header_is_accepted(browser: Browser, hostile: Issuer) -> None:
    hostile.tamper = _resigned(hostile, {})
    caller_of(browser.sign_in(START, hostile.consent))


def test_a_header_that_asks_for_something_else_is_refused(browser: Browser, hostile: Issuer) -> None:
    for header in (
        {"kid": "two"},
        {"kid": "../one"},
        {"crit": ["exp"], "exp": 1},
        {"crit": ["b64"], "b64": False},
        {"alg": "RS512"},
        {"alg": "none"},
    ):
        hostile.tamper = _resigned(hostile, header)
        assert browser.sign_in(START, hostile.consent).error == "id_token_refused", header


def test_other_good_algorithms_are_accepted(browser: Browser, hostile: Issuer) -> None:
    for key, alg in (
        (ECKey.generate_key("P-256", {"kid": "one"}), "ES256"),
        (OKPKey.generate_key("Ed25519", {"kid": "one"}), "EdDSA"),
        (OKPKey.generate_key("Ed25519", {"kid": "one"}), "Ed25519"),
        (hostile.key, "PS256"),
    ):
        hostile.key, hostile.header["alg"] = key, alg
        caller_of(browser.sign_in(START, hostile.consent))


def test_a_shared_secret_among_the_keys_verifies_nothing(browser: Browser, hostile: Issuer) -> None:
    shared = OctKey.generate_key(256, {"kid": "one"})
    hostile.key, hostile.header["alg"] = shared, "HS256"
    hostile.published = KeySet([shared]).as_dict(private=True)
    assert browser.sign_in(START, hostile.consent).error == "id_token_refused"


async def _drops() -> AsyncIterator[bytes]:
    while True:
        yield b" "
        await asyncio.sleep(0.2)


_ODD_ANSWERS: list[Callable[[], Response]] = [
    lambda: RedirectResponse("http://127.0.0.1:1/elsewhere"),
    lambda: StreamingResponse(flood()),
    lambda: Response("<html>", 500),
    lambda: Response(b"[" * 200_000),
    lambda: Response(b"\xff\xfe"),
    lambda: Response(b"\x1f\x8b", headers={"Content-Encoding": "gzip"}),
    lambda: JSONResponse([]),
    lambda: JSONResponse({"keys": "none"}),
    lambda: JSONResponse({"keys": [{"kty": "RSA"}]}),
]


@pytest.mark.parametrize("path", ["/token", "/jwks"])
def test_a_provider_that_answers_with_something_else_signs_nobody_in(
    browser: Browser, hostile: Issuer, path: str
) -> None:
    for number, hostile.answers[path] in enumerate(_ODD_ANSWERS):
        came = browser.sign_in(START, hostile.consent)
        assert came.error in {"identity_provider_failed", "code_refused", "id_token_refused"}, number


def test_a_provider_that_answers_drop_by_drop_is_not_waited_for(browser: Browser, hostile: Issuer) -> None:
    hostile.answers["/token"] = lambda: StreamingResponse(_drops())
    began = time.monotonic()
    assert browser.sign_in(START, hostile.consent).error == "identity_provider_failed"
    assert time.monotonic() - began < 10


def test_the_answer_may_name_its_issuer_and_then_it_has_to_be_the_one_asked(browser: Browser, hostile: Issuer) -> None:
    url = browser.start(START)
    answer = browser.back(url, hostile.consent(url) + "&iss=https%3A%2F%2Fevil.example")
    assert answer.error == "login_state_invalid"
    assert "/token" not in hostile.asked
    url = browser.start(START)
    assert browser.back(url, f"{hostile.consent(url)}&iss={hostile.url}").status == 200


def test_an_issuer_that_promises_to_name_itself_has_to(browser: Browser, hostile: Issuer) -> None:
    hostile.discovery["authorization_response_iss_parameter_supported"] = True
    assert browser.sign_in(START, hostile.consent).error == "login_state_invalid"


def test_user_info_about_somebody_else_is_ignored(browser: Browser, hostile: Issuer) -> None:
    hostile.discovery["userinfo_endpoint"] = f"{hostile.url}/userinfo"
    hostile.claims = {"sub": "2"}
    assert browser.sign_in(START, hostile.consent).error == "email_not_verified"
    hostile.claims = {"sub": "1"}
    caller_of(browser.sign_in(START, hostile.consent))


def test_what_the_id_token_says_counts_more_than_user_info(browser: Browser, hostile: Issuer) -> None:
    info = registered("info@example.com")
    hostile.discovery["userinfo_endpoint"] = f"{hostile.url}/userinfo"
    assert caller_of(browser.sign_in(START, hostile.consent)).person_id != info.person_id


@pytest.fixture
def owner(browser: Browser) -> Caller:
    return registered("owner@example.com")


def test_an_issuer_whose_document_does_not_hold_is_not_stored(call: Call, owner: Caller, hostile: Issuer) -> None:
    for hostile.discovery in (
        {"issuer": "https://accounts.google.com"},
        {"issuer": None},
        {"token_endpoint": None},
        {"jwks_uri": "file:///etc/passwd"},
        {"token_endpoint": "gopher://127.0.0.1/"},
        {"authorization_endpoint": "javascript:alert(1)"},
        {"userinfo_endpoint": 1},
    ):
        answer = put_sso(call, owner, hostile.url)
        assert (answer.status, answer.error) == (400, "issuer_refused"), hostile.discovery
        assert answer.json["error"]["param"] == "issuer"


def test_what_is_no_address_for_an_issuer_is_refused_even_at_home(call: Call, owner: Caller) -> None:
    for issuer in (
        "http://169.254.169.254",
        "http://[fe80::1]",
        "http://[::ffff:169.254.169.254]",
        "http://0.0.0.0",
        "http://nobody.invalid",
        "http://127.0.0.1:1",
        "ftp://127.0.0.1",
        "http://user@127.0.0.1",
        "http://127.0.0.1/?x",
        "http://127.0.0.1/#x",
        "http://127.0.0.1:99999",
        "http://[",
        "//127.0.0.1",
        "issuer",
    ):
        assert put_sso(call, owner, issuer).error == "issuer_refused", issuer


def test_in_aws_nobody_leads_us_into_our_own_network(
    call: Call, owner: Caller, hostile: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUNYARD_PRIVATE_ISSUERS", "0")
    settings.forget()
    port = hostile.url.rpartition(":")[2]
    inside = ("127.0.0.1", "localhost", "2130706433", "0x7f.1", "[::1]", "[::ffff:127.0.0.1]", "10.0.0.1", "[fd00::1]")
    for host in inside:
        assert put_sso(call, owner, f"https://{host}:{port}").error == "issuer_refused", host
    assert put_sso(call, owner, hostile.url).error == "issuer_refused"
    assert hostile.asked == []


def test_a_name_that_leads_inside_among_other_places_is_refused_and_not_asked_again(
    call: Call, owner: Caller, hostile: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUNYARD_PRIVATE_ISSUERS", "0")
    settings.forget()
    port = int(hostile.url.rpartition(":")[2])
    real, looked_up = socket.getaddrinfo, []

    def rebinding(host: str, *rest: Any, **options: Any) -> Any:
        if host != "rebinding.example":
            return real(host, *rest, **options)
        looked_up.append(host)
        found = ["192.0.43.8", "127.0.0.1"]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in found]

    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    assert put_sso(call, owner, f"https://rebinding.example:{port}").error == "issuer_refused"
    assert looked_up == ["rebinding.example"]
    assert hostile.asked == []


def test_a_code_or_state_that_is_no_text_of_ours_is_refused(browser: Browser, hostile: Issuer) -> None:
    url = browser.start(START)
    state = query(url)["state"]
    for came_with in ("", "code=x", f"state={state}x&code=x", "state=%00&code=%00", f"state={'x' * 5000}", "state=%ff"):
        assert browser.back(url, came_with).status == 400, came_with
    assert browser.back(url, f"state={state}&code=%00%0d%0a").error == "code_refused"
