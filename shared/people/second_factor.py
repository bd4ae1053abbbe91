"""pyotp: one-time codes by time (RFC 6238) and recovery codes; the secret is wrapped by KMS.

The library is imported on first use: most functions that know of people have no layer with it.
"""

import hashlib
import secrets
from base64 import b32encode
from datetime import datetime
from hmac import compare_digest
from uuid import UUID

from shared.kernel import ids, wrapping
from shared.people.model import RECOVERY_CODES

_STEP_S = 30
# Clocks of telephones differ: the step before and the one after are good too.
_STEPS_ASIDE = 1
_ISSUER = "Runyard"


def new_secret() -> str:
    """Return a secret of 160 bits in base32, as authenticator apps take it."""
    import pyotp

    return pyotp.random_base32()


def uri(secret: str, *, email: str) -> str:
    """Return the `otpauth://` URI that authenticator apps read from a QR code."""
    import pyotp

    return pyotp.TOTP(secret).provisioning_uri(name=email, issuer_name=_ISSUER)


def step_of(secret: str, code: str, now: datetime) -> int | None:
    """Return the step of time whose code this is, None for no step that is good now."""
    import pyotp

    totp = pyotp.TOTP(secret)
    current = int(now.timestamp()) // _STEP_S
    given = code.encode(errors="replace")
    found = None
    for step in range(current - _STEPS_ASIDE, current + _STEPS_ASIDE + 1):
        if compare_digest(totp.at(step * _STEP_S).encode(), given):
            found = step
    return found


def wrap(secret: str, user_id: UUID) -> bytes:
    return wrapping.wrap(secret.encode(), context=_context(user_id))


def unwrap(wrapped: bytes, user_id: UUID) -> str:
    return wrapping.unwrap(wrapped, context=_context(user_id)).decode()


def _context(user_id: UUID) -> dict[str, str]:
    return {"purpose": "totp", "user": ids.show("user", user_id)}


def new_recovery_codes() -> list[str]:
    """Return codes of 80 random bits each, `abcd-efgh-ijkl-mnop`: enough for a plain SHA-256 to be kept of them."""
    made = []
    for _ in range(RECOVERY_CODES):
        text = b32encode(secrets.token_bytes(10)).decode().lower()
        made.append("-".join(text[start : start + 4] for start in range(0, 16, 4)))
    return made


def sha256_of_recovery_code(code: str) -> bytes:
    """Return what the code is kept as; blanks, dashes and capitals do not matter."""
    bare = "".join(character for character in code.lower() if character.isalnum())
    return hashlib.sha256(bare.encode(errors="replace")).digest()
