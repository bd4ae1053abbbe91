"""Use cases of access tokens: issue, verify, publish the keys, rotate them.

Signing is imported where it is used, and joserfc with it: to load that takes as long as all else of the authorizer.
"""

from typing import Any
from uuid import UUID

from shared.kernel import settings
from shared.tokens import verifying
from shared.tokens.model import AccessToken, Claims

__all__ = ["discovery", "forget", "issue", "jwks", "rotate", "verify"]


def issue(*, user_id: UUID, session_id: UUID, org_id: UUID) -> AccessToken:
    """Return an access token of 15 minutes. Uses a connection of its own: call it outside of any transaction."""
    from shared.tokens import signing

    return signing.issue(user_id=user_id, session_id=session_id, org_id=org_id)


def verify(text: str) -> Claims:
    """Return what an access token says; raise `InvalidToken` or a kind of it. Its session may have ended since."""
    return verifying.verify(text)


def rotate() -> int:
    """Make the next signing key in time and drop old ones; return how many were made or dropped."""
    from shared.tokens import signing

    return signing.rotate()


def jwks() -> dict[str, Any]:
    """Return the JSON Web Key Set: each key that verifies, the next one to sign included."""
    return {"keys": [key.public_jwk for key in verifying.public_keys()]}


def discovery() -> dict[str, Any]:
    """Return what OpenID Connect Discovery and RFC 8414 ask of an issuer of tokens that nobody else asks for.

    There is no authorization endpoint: people sign in at `/v1/auth`, and other parties can only verify.
    """
    issuer = settings.public_url()
    return {
        "issuer": issuer,
        "jwks_uri": f"{issuer}/.well-known/jwks.json",
        "response_types_supported": ["none"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["ES256"],
        "claims_supported": ["iss", "aud", "sub", "sid", "org", "iat", "nbf", "exp", "jti"],
    }


def forget() -> None:
    """Drop all keys that this process keeps, so that a test may change the database under it."""
    from shared.tokens import signing

    verifying.forget()
    signing.forget()
