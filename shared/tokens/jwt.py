"""joserfc: makes, signs and verifies JSON Web Tokens of the one form that we issue (ES256, RFC 9068's `at+jwt`)."""

import json
from collections.abc import Mapping
from typing import Any

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey
from joserfc.util import urlsafe_b64decode

from shared.kernel.errors import InvalidToken, TokenAlgorithmRefused, TokenKeyUnknown, TokenNotForUs

ALGORITHM = "ES256"
TYPE = "at+jwt"
_HEADER = frozenset({"alg", "kid", "typ"})
_HEADER_CHARACTERS = 512

type Key = ECKey


def generate() -> Key:
    """Return a new P-256 key pair, whose kid is its RFC 7638 thumbprint."""
    return ECKey.generate_key("P-256", auto_kid=True)


def kid(key: Key) -> str:
    assert key.kid is not None  # noqa: S101 - `generate` and the store name every key
    return key.kid


def public_jwk(key: Key) -> dict[str, str]:
    """Return the public half as JWKS publishes it."""
    return {name: str(value) for name, value in key.as_dict(private=False).items()} | {"use": "sig", "alg": ALGORITHM}


def private_bytes(key: Key) -> bytes:
    """Return the private half, to be wrapped."""
    return json.dumps(key.as_dict(private=True)).encode()


def private_key(stored: bytes, *, kid: str) -> Key:
    """Return the key pair; raise `ValueError` when this isn't the one that the kid names."""
    try:
        key = ECKey.import_key(json.loads(stored))
    except (JoseError, KeyError) as error:
        raise ValueError("not a key") from error
    if not key.is_private or key.thumbprint() != kid or key.kid != kid:
        raise ValueError("not the key of this kid")
    return key


def public_key(jwk: Mapping[str, str]) -> Key:
    return ECKey.import_key({**jwk})


def sign(claims: dict[str, str | int], key: Key) -> str:
    """Return the token of these claims."""
    return jwt.encode({"alg": ALGORITHM, "kid": kid(key), "typ": TYPE}, claims, key, algorithms=[ALGORITHM])


def kid_of(text: str) -> str:
    """Return which key the token says it is signed with; nothing else of it is believed yet.

    The header must hold what ours hold and no more: no key that it brings along, no address of one, no extension.
    """
    header, _, rest = text.partition(".")
    if rest.count(".") != 1 or len(header) > _HEADER_CHARACTERS:
        raise InvalidToken("This is no access token of ours.")
    try:
        parsed = _parse(urlsafe_b64decode(header.encode()))
    except (ValueError, RecursionError) as error:
        raise InvalidToken("This is no access token of ours.") from error
    if parsed.get("alg") != ALGORITHM:
        raise TokenAlgorithmRefused(f"Access tokens are signed with {ALGORITHM}.")
    if parsed.get("typ") != TYPE:
        raise TokenNotForUs("This token is of another type than our access tokens.")
    named = parsed.get("kid")
    if not isinstance(named, str):
        raise TokenKeyUnknown("This access token names no key.")
    if not parsed.keys() <= _HEADER:
        raise InvalidToken("This access token's header holds what ours never do.")
    return named


def payload_of(text: str, key: Key) -> dict[str, Any]:
    """Return the payload; raise `InvalidToken` unless the key's signature covers it."""
    try:
        return jwt.decode(text, key, algorithms=[ALGORITHM], decoder_cls=_Strict).claims
    except (JoseError, ValueError, RecursionError) as error:
        raise InvalidToken("This access token's signature does not fit.") from error


def _parse(content: bytes) -> dict[str, Any]:
    parsed = json.loads(content.decode(), cls=_Strict)
    if not isinstance(parsed, dict):
        raise ValueError("no object")  # noqa: TRY004 - as all else that is wrong with it
    return parsed


class _Strict(json.JSONDecoder):
    """JSON in which no name comes twice and every number is one."""

    def __init__(self) -> None:
        super().__init__(object_pairs_hook=_once_each, parse_constant=_refuse)


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name comes twice")
    return found


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no number")
