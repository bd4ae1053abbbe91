"""The public keys, kept in the process: a token is verified without a look at the database."""

import re
import threading
import time
from typing import TYPE_CHECKING

from shared.kernel import clock, db, settings
from shared.kernel.errors import TokenKeyUnknown
from shared.tokens import store
from shared.tokens.model import Claims, SigningKey, claims_of

if TYPE_CHECKING:
    from shared.tokens import jwt

# A key made at once, for want of any other, is known everywhere after the second of these; a deleted one is forgotten
# after the first.
_KEPT_S = 60.0
_UNKNOWN_EVERY_S = 5.0
_KID = re.compile(r"[A-Za-z0-9_-]{43}")


class _Ring:
    """All keys that verify, as of a moment ago."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.clear()

    def clear(self) -> None:
        self._keys: dict[str, SigningKey] = {}
        self._parsed: dict[str, jwt.Key] = {}
        self._tried_at: float | None = None
        self._loaded_at: float | None = None

    def keys(self) -> list[SigningKey]:
        with self._lock:
            if self._older_than(_KEPT_S, self._loaded_at):
                self._load()
            return [*self._keys.values()]

    def find(self, kid: str) -> "jwt.Key":
        """Return the key; raise `TokenKeyUnknown`. Unknown names cost one look at the database in five seconds."""
        from shared.tokens import jwt

        if _KID.fullmatch(kid) is None:
            raise TokenKeyUnknown("This access token names no key of ours.")
        with self._lock:
            unknown = kid not in self._keys and self._older_than(_UNKNOWN_EVERY_S, self._tried_at)
            if unknown or self._older_than(_KEPT_S, self._loaded_at):
                self._load()
            found = self._keys.get(kid)
            if found is None or found.verifies_until <= clock.now():
                raise TokenKeyUnknown("This access token names no key of ours that is still good.")
            if kid not in self._parsed:
                self._parsed[kid] = jwt.public_key(found.public_jwk)
            return self._parsed[kid]

    def _load(self) -> None:
        self._tried_at = time.monotonic()
        with db.anonymous() as tx:
            found = store.list_keys(tx, now=clock.now())
        self._loaded_at = time.monotonic()
        self._keys = {key.kid: key for key in found}
        self._parsed = {kid: key for kid, key in self._parsed.items() if kid in self._keys}

    @staticmethod
    def _older_than(seconds: float, moment: float | None) -> bool:
        return moment is None or time.monotonic() - moment >= seconds


_ring = _Ring()


def verify(text: str) -> Claims:
    """Return what a token says once its form, signature and times are good; raise `InvalidToken` or a kind of it.

    Nothing but the keys, once a minute, is read from the database: what is refused here costs no query.
    """
    # Whoever comes with an API key needs no joserfc, which takes as long to load as everything else together.
    from shared.tokens import jwt

    payload = jwt.payload_of(text, _ring.find(jwt.kid_of(text)))
    return claims_of(payload, issuer=settings.public_url(), now=clock.now())


def public_keys() -> list[SigningKey]:
    """Return the keys to publish: all that verify, and the one that will sign next."""
    return _ring.keys()


def forget() -> None:
    """Drop the keys read so far; the next use reads them again."""
    _ring.clear()
