"""OpenID Connect issuers and OAuth 2.0: the code flow with PKCE, by Authlib and joserfc. Their only importer here.

All of it is imported by the first call: most sign-ins need none of it.
"""

import time
import warnings
from collections.abc import Mapping
from typing import Any, Final

from shared.kernel import settings
from shared.logins.addresses import check_url
from shared.logins.model import (
    Claims,
    CodeRefused,
    IdentityProviderFailed,
    IdTokenRefused,
    IssuerRefused,
    LoginStateInvalid,
    OidcClient,
    readable_name,
)

# Signatures by a key that the issuer alone has; HS* would make our client's secret one.
_ALGORITHMS: Final = ("RS256", "PS256", "ES256", "EdDSA", "Ed25519")
_KEY_TYPES: Final = frozenset({"RSA", "EC", "OKP"})
_LEEWAY_S: Final = 5
_LONGEST_TOKEN: Final = 16_384
_LONGEST_SUBJECT: Final = 255
_KEPT_S: Final = 300
_MOST_KEPT: Final = 100
_ENDPOINTS: Final = ("authorization_endpoint", "token_endpoint", "jwks_uri")
_kept: dict[str, tuple[float, dict[str, Any]]] = {}


def discover(issuer: str) -> dict[str, Any]:
    """Return the issuer's discovery document, at most five minutes old; raise `IssuerRefused` when it does not hold."""
    from authlib.oidc.discovery import get_well_known_url

    from shared.logins import guarded_http

    now = time.monotonic()
    if issuer in _kept and _kept[issuer][0] > now:
        return _kept[issuer][1]
    answer = guarded_http.get(get_well_known_url(issuer, external=True))
    found = answer.json
    if answer.status != 200 or not isinstance(found, dict):
        raise IssuerRefused("The issuer has no discovery document.", param="issuer")
    if found.get("issuer") != issuer:
        raise IssuerRefused("The issuer's discovery document names another issuer.", param="issuer")
    endpoints = [found.get(name) for name in _ENDPOINTS]
    if "userinfo_endpoint" in found:
        endpoints.append(found["userinfo_endpoint"])
    for endpoint in endpoints:
        if not isinstance(endpoint, str):
            raise IssuerRefused("The issuer's discovery document lacks an endpoint.", param="issuer")
        check_url(endpoint, private=settings.logins().private_issuers)
    if len(_kept) >= _MOST_KEPT:
        _kept.clear()
    _kept[issuer] = (now + _KEPT_S, found)
    return found


def forget() -> None:
    """Drop all discovery documents that this process keeps."""
    _kept.clear()


def authorization_url(client: OidcClient, *, redirect_uri: str, state: str, nonce: str, verifier: str) -> str:
    """Return where the browser goes to sign in."""
    return grant_url(
        discover(client.issuer)["authorization_endpoint"],
        client_id=client.client_id,
        redirect_uri=redirect_uri,
        scope="openid email profile",
        state=state,
        verifier=verifier,
        nonce=nonce,
    )


def claims(client: OidcClient, *, code: str, redirect_uri: str, nonce: str, verifier: str, iss: str | None) -> Claims:
    """Redeem the code and return what the issuer says of who signed in.

    Raises `LoginStateInvalid` when `iss` names another issuer (RFC 9207), `CodeRefused`, `IdTokenRefused`.
    """
    provider = discover(client.issuer)
    promised = provider.get("authorization_response_iss_parameter_supported") is True
    if (iss or (None if promised else client.issuer)) != client.issuer:
        raise LoginStateInvalid("The answer came from another issuer than the one that was asked.")
    tokens = redeem(
        provider["token_endpoint"],
        client_id=client.client_id,
        client_secret=client.client_secret,
        code=code,
        redirect_uri=redirect_uri,
        verifier=verifier,
        method=_method(provider.get("token_endpoint_auth_methods_supported")),
    )
    proven = _verified(client, provider, tokens, nonce=nonce)
    everything = {**_user_info(provider, tokens, subject=proven["sub"]), **proven}
    email, verified = everything.get("email"), everything.get("email_verified")
    return Claims(
        issuer=client.issuer,
        subject=proven["sub"],
        email=email if isinstance(email, str) else None,
        email_verified=verified if isinstance(verified, bool) else None,
        name=readable_name(everything.get("name"), email if isinstance(email, str) else None),
        everything=everything,
    )


def grant_url(
    url: str, *, client_id: str, redirect_uri: str, scope: str, state: str, verifier: str, nonce: str | None = None
) -> str:
    """Return an authorization request (RFC 6749, 4.1.1) with a PKCE challenge (RFC 7636)."""
    from authlib.oauth2.rfc6749.parameters import prepare_grant_uri
    from authlib.oauth2.rfc7636 import create_s256_code_challenge

    return str(
        prepare_grant_uri(
            url,
            client_id,
            "code",
            redirect_uri=redirect_uri,
            scope=scope,
            state=state,
            nonce=nonce,
            code_challenge=create_s256_code_challenge(verifier),
            code_challenge_method="S256",
        )
    )


def redeem(
    url: str, *, client_id: str, client_secret: str, code: str, redirect_uri: str, verifier: str, method: str
) -> dict[str, Any]:
    """Return the tokens given for a code (RFC 6749, 4.1.3); raise `CodeRefused`."""
    from authlib.oauth2.auth import ClientAuth
    from authlib.oauth2.rfc6749.parameters import prepare_token_request

    from shared.logins import guarded_http

    body = prepare_token_request("authorization_code", redirect_uri=redirect_uri, code=code, code_verifier=verifier)
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    url, headers, body = ClientAuth(client_id, client_secret, method).prepare("POST", url, headers, body)
    answer = guarded_http.post(url, headers=headers, body=body)
    tokens = answer.json
    if not isinstance(tokens, dict):
        raise IdentityProviderFailed("The identity provider's answer is not a JSON object.")
    if answer.status != 200 or not isinstance(tokens.get("access_token"), str):
        raise CodeRefused("The identity provider does not take this code; begin the sign-in again.")
    return tokens


def _method(offered: object) -> str:
    # Basic is what a document that names none means (OpenID Connect Discovery 1.0, 3).
    if isinstance(offered, list) and "client_secret_basic" not in offered and "client_secret_post" in offered:
        return "client_secret_post"
    return "client_secret_basic"


def _verified(
    client: OidcClient, provider: Mapping[str, Any], tokens: Mapping[str, Any], *, nonce: str
) -> dict[str, Any]:
    from authlib.oidc.core import CodeIDToken
    from joserfc import jwt
    from joserfc.errors import JoseError, SecurityWarning

    text = tokens.get("id_token")
    if not isinstance(text, str) or len(text) > _LONGEST_TOKEN:
        raise IdTokenRefused("The identity provider gave no ID token of a reasonable size.")
    try:
        with warnings.catch_warnings():
            # joserfc warns of EdDSA, the name that issuers use for what is Ed25519 since RFC 9864.
            warnings.simplefilter("ignore", SecurityWarning)
            token = jwt.decode(text, _keys(provider["jwks_uri"]), algorithms=_ALGORITHMS)
        proven = CodeIDToken(
            token.claims,
            token.header,
            {"iss": {"essential": True, "value": client.issuer}, "aud": {"essential": True, "value": client.client_id}},
            {"nonce": nonce, "client_id": client.client_id, "access_token": tokens["access_token"]},
        )
        proven.validate(leeway=_LEEWAY_S)
    # What a hostile token makes a library stumble over is as good a reason as any.
    except (JoseError, ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError):
        raise IdTokenRefused("The identity provider's ID token does not hold.") from None
    subject = proven.get("sub")
    if not isinstance(subject, str) or not 0 < len(subject) <= _LONGEST_SUBJECT or not subject.isprintable():
        raise IdTokenRefused("The identity provider's ID token names nobody.")
    return dict(proven)


def _keys(url: str) -> Any:
    from joserfc.jwk import JWKRegistry, KeySet

    from shared.logins import guarded_http

    answer = guarded_http.get(url)
    match answer.json:
        case {"keys": [*listed]} if answer.status == 200:
            usable = [
                key
                for key in listed
                if isinstance(key, dict) and key.get("kty") in _KEY_TYPES and key.get("use", "sig") == "sig"
            ]
            return KeySet([JWKRegistry.import_key(key) for key in usable])
        case _:
            raise IdentityProviderFailed("The identity provider's keys can't be read.")


def _user_info(provider: Mapping[str, Any], tokens: Mapping[str, Any], *, subject: str) -> dict[str, Any]:
    """Return what the issuer says beside the ID token, which some keep short; nothing where it is of somebody else."""
    from shared.logins import guarded_http

    if "userinfo_endpoint" not in provider:
        return {}
    answer = guarded_http.get(
        provider["userinfo_endpoint"], headers={"Authorization": f"Bearer {tokens['access_token']}"}
    )
    match answer.json:
        case {"sub": said} if answer.status == 200 and said == subject:
            return dict(answer.json)
        case _:
            return {}
