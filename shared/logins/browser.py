"""The browser's part in a sign-in: a cookie that only who began it has, so that nobody finishes another's."""

from typing import Final

from shared.kernel import settings
from shared.logins.model import LIFETIME, Begun

COOKIE: Final = "runyard_login"
# What passes here is for the browser that asked, and for no cache.
_PRIVATE: Final = {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}


def bound_to(begun: Begun) -> dict[str, str]:
    """Return the headers that bind a sign-in to the browser they are sent to."""
    return {"Set-Cookie": _cookie(begun.browser, int(LIFETIME.total_seconds())), **_PRIVATE}


def done() -> dict[str, str]:
    """Return the headers of the end: the cookie has served."""
    return {"Set-Cookie": _cookie("", 0), **_PRIVATE}


def _cookie(value: str, max_age_s: int) -> str:
    # Lax: the provider sends the browser back by a link, which is when it has to be there.
    secure = "; Secure" if settings.public_url().startswith("https://") else ""
    return f"{COOKIE}={value}; Max-Age={max_age_s}; Path=/v1/auth; HttpOnly; SameSite=Lax{secure}"
