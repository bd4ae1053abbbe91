"""The mail that the home has sent: it never leaves the machine, the emulator keeps it."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Final

import httpx

from local.errors import HomeError
from local.settings import Home

_BETWEEN_LOOKS_S: Final = 1.0


def letters(home: Home, *, follow: bool = False) -> Iterator[str]:
    """Yield each letter as text, oldest first, and then, if asked, those that come from now on.

    Raises `HomeError` when the emulator doesn't answer.
    """
    shown = 0
    while True:
        found = sent(home)
        # Fewer than before: the emulator was started anew.
        shown = min(shown, len(found))
        yield from (_shown(letter) for letter in found[shown:])
        shown = len(found)
        if not follow:
            return
        time.sleep(_BETWEEN_LOOKS_S)


def sent(home: Home) -> list[dict[str, Any]]:
    """Return all letters, oldest first, as the emulator recorded them: `To`, `Subject`, `BodyText`, `Timestamp`."""
    try:
        answer = httpx.get(f"{home.emulator_url}/_ministack/ses/messages", timeout=5, trust_env=False)
        of_accounts: dict[str, list[dict[str, Any]]] = answer.raise_for_status().json()["messages"]
    except (httpx.HTTPError, ValueError, KeyError) as error:
        raise HomeError(
            "The home's mail is in the emulator, which doesn't answer.", hint="`make up` starts it."
        ) from error
    return sorted((letter for each in of_accounts.values() for letter in each), key=lambda letter: letter["Timestamp"])


def _shown(letter: dict[str, Any]) -> str:
    at = datetime.fromtimestamp(float(letter["Timestamp"]), UTC)
    head = f"Date:    {at:%Y-%m-%d %H:%M:%S} UTC\nTo:      {', '.join(letter['To'])}\nSubject: {letter['Subject']}"
    return _printable(f"{head}\n\n{letter['BodyText'].strip()}\n")


def _printable(text: str) -> str:
    """Leave out what would move a terminal's cursor: other people's names are in letters."""
    return "".join(character for character in text if character.isprintable() or character == "\n")
