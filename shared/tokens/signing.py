"""The private keys: which one signs, unwrapped by KMS once in a process; made, replaced and retired here."""

import threading
import time
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from shared.kernel import clock, db, ids, settings, wrapping
from shared.kernel.errors import Unavailable
from shared.kernel.telemetry import logger
from shared.kernel.wrapping import Unwrappable
from shared.tokens import jwt, store
from shared.tokens.model import (
    TOKEN_LIFETIME,
    VERIFIES_AFTER_LAST,
    AccessToken,
    SigningKey,
    claims_for,
    signer_among,
    successor_begins,
)

# A process asks this often which key signs: a key retired by another process signs no longer than this.
_KEPT_S = 60.0
# Each attempt replaces one key that can't be used; there are two at most, and other processes may be at it too.
_ATTEMPTS = 5


@dataclass(slots=True)
class _Held:
    """The unwrapped key of this process."""

    key: jwt.Key | None = None
    asked_at: float = 0.0


_held = _Held()
_lock = threading.Lock()


def issue(*, user_id: UUID, session_id: UUID, org_id: UUID) -> AccessToken:
    """Return an access token. The first one ever makes the key to sign it with.

    Uses a connection of its own, and KMS once in a process: not to be called within a transaction that holds locks.
    """
    claims = claims_for(
        issuer=settings.public_url(),
        user_id=user_id,
        session_id=session_id,
        org_id=org_id,
        now=clock.now(),
        token_id=ids.new(),
    )
    return AccessToken(jwt.sign(claims, _signer()), int(TOKEN_LIFETIME.total_seconds()))


def rotate() -> int:
    """Replace keys that can't be unwrapped, make the next key in time, delete those past their use.

    Returns how many keys were made or deleted. Run daily; running it more often changes nothing.
    """
    now = clock.now()
    with db.anonymous() as tx:
        deleted = store.delete_keys(tx, now=now)
        keys = store.list_keys(tx, now=now)
    usable = []
    for key in keys:
        if key.signs_until > now:
            if _unwrapped(key.kid) is None:
                _retire(key.kid)
            else:
                usable.append(key)
    begins = successor_begins(usable, clock.now())
    made = begins is not None and _make(begins) is not None
    logger.info("keys rotated", extra={"made": int(made), "deleted": deleted})
    return deleted + int(made)


def forget() -> None:
    """Drop the unwrapped key; the next use asks again."""
    with _lock:
        _held.key, _held.asked_at = None, 0.0


def _signer() -> jwt.Key:
    with _lock:
        if _held.key is None or time.monotonic() - _held.asked_at >= _KEPT_S:
            _held.key = _current(_held.key)
            _held.asked_at = time.monotonic()
        return _held.key


def _current(held: jwt.Key | None) -> jwt.Key:
    """Return the key that signs now, the one held if it still is; make one if there is none that can be used."""
    for _ in range(_ATTEMPTS):
        now = clock.now()
        with db.anonymous() as tx:
            chosen = signer_among(store.list_keys(tx, now=now), now)
        if chosen is None:
            found = _make(now)
        elif held is not None and jwt.kid(held) == chosen.kid:
            found = held
        else:
            found = _unwrapped(chosen.kid) or _make(now, instead_of=chosen.kid)
        if found is not None:
            return found
    raise Unavailable("No key to sign with could be had; try again shortly.", retry_after_s=1)


def _unwrapped(kid: str) -> jwt.Key | None:
    """Return the private key, or None when it is gone or of no use any more."""
    with db.anonymous() as tx:
        wrapped = store.private_half(tx, kid)
    if wrapped is None:
        return None
    try:
        return jwt.private_key(wrapping.unwrap(wrapped, context=_context(kid)), kid=kid)
    except (Unwrappable, ValueError) as error:
        logger.warning("signing key can't be unwrapped", extra={"kid": kid, "error": type(error).__name__})
        return None


def _make(begins: datetime, *, instead_of: str | None = None) -> jwt.Key | None:
    """Return a new key that signs from `begins` on, or None when another process was faster.

    KMS is asked before anything is locked; the key replaced is retired only once its successor is safe.
    """
    made = jwt.generate()
    key = SigningKey.starting(begins, kid=jwt.kid(made), public_jwk=jwt.public_jwk(made))
    wrapped = wrapping.wrap(jwt.private_bytes(made), context=_context(key.kid))
    with db.anonymous() as tx:
        store.lock(tx)
        others = store.list_keys(tx, now=clock.now())
        # Not as of `begins` where that has passed: another process may have begun its key a moment later.
        there = signer_among(others, max(begins, clock.now()))
        if there is not None and there.kid != instead_of:
            return None
        if instead_of is not None:
            _retire_in(tx, instead_of)
        store.insert_key(tx, key, private_wrapped=wrapped)
    logger.info("signing key made", extra={"kid": key.kid, "instead_of": instead_of})
    return made


def _retire(kid: str) -> None:
    with db.anonymous() as tx:
        _retire_in(tx, kid)


def _retire_in(tx: db.Tx, kid: str) -> None:
    """Sign no more with this key; what it signed stays good until it has expired."""
    now = clock.now()
    store.retire_key(tx, kid, now=now, verifies_until=now + VERIFIES_AFTER_LAST)


def _context(kid: str) -> dict[str, str]:
    return {"purpose": "signing-key", "kid": kid}
