"""What looks like personal data is struck out of what is recorded; what only resembles it stays."""

import time
from typing import Any

import pytest

from shared.inference.redaction import KINDS, redact

ALL = frozenset(KINDS)
FOUND = [
    ("write to ada.lovelace+work@mail.example.co.uk.", "write to [email]."),
    ("<ada@example.org>,bob@example.org", "<[email]>,[email]"),
    ("call +49 30 901820 today", "call [phone] today"),
    ("(030) 901-8200 or 555-123-4567", "[phone] or [phone]"),
    ("+4915112345678.", "[phone]."),
    ("4111 1111 1111 1111 12/29", "[card] 12/29"),
    ("no. 12 4111-1111-1111-1111 and 5555555555554444", "no. 12 [card] and [card]"),
    ("378282246310005", "[card]"),
    ("DE89 3704 0044 0532 0130 00 BY MAY", "[iban] BY MAY"),
    ("GB82WEST12345698765432", "[iban]"),
    ("sk-ant-abcdefghijklmnop1234 and AKIAIOSFODNN7EXAMPLE", "[api_key] and [api_key]"),
    ("ry_live_0123456789abcdef0123", "[api_key]"),
    ("Authorization: Bearer abcdefghijklmnop123", "Authorization: Bearer [api_key]"),
    ("token eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl here", "token [api_key] here"),
]
LEFT = [
    "a@b, @handle, 3 @ 4",
    "4111 1111 1111 1112",
    "GB83WEST12345698765432",
    "order 20261122 12345, at 1732233600123",
    "2026-11-22T12:00:00+00:00 from 192.168.100.200, version 3.13.0",
    "call 112 or +12345",
    "sk-short, risk-averse-people-do-not-panic",
    "3.14159265358979 4111111111111111.5",
]


@pytest.mark.parametrize(("text", "expected"), FOUND, ids=[text for text, _ in FOUND])
def test_what_looks_like_personal_data_is_struck_out(text: str, expected: str) -> None:
    assert redact(text, ALL) == expected


@pytest.mark.parametrize("text", LEFT)
def test_what_only_resembles_it_stays(text: str) -> None:
    assert redact(text, ALL) == text


@pytest.mark.parametrize("kind", KINDS)
def test_only_the_kinds_that_are_asked_for_are_struck_out(kind: str) -> None:
    every = "ada@example.org +49 30 901820, 4111111111111111 GB82WEST12345698765432 sk-abcdefghijklmnop"
    redacted = redact(every, frozenset({kind}))
    assert f"[{kind}]" in redacted
    assert [f"[{other}]" for other in KINDS if other != kind and f"[{other}]" in redacted] == []
    assert redact(every, frozenset()) == every


def test_it_reaches_into_everything_that_json_can_be() -> None:
    prompt: dict[str, Any] = {
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "I am ada@example.org"}, None, 3.5, True]},
            {"role": "assistant", "tool_calls": [{"function": {"arguments": '{"to": "bob@example.org"}'}}]},
        ],
        "metadata": {"carol@example.org": 1},
    }
    assert redact(prompt, ALL) == {
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "I am [email]"}, None, 3.5, True]},
            {"role": "assistant", "tool_calls": [{"function": {"arguments": '{"to": "[email]"}'}}]},
        ],
        "metadata": {"[email]": 1},
    }
    assert prompt["metadata"] == {"carol@example.org": 1}, "what was given is as it was"


@pytest.mark.parametrize(
    "text",
    ["a" * 1_000_000, "1" * 1_000_000, "1 " * 500_000, "11 " * 300_000, "a.b-" * 250_000, "AB12 " + "ABCD " * 200_000,
     "+1" * 500_000, "@" * 1_000_000, "(12)" * 250_000, "data:image/png;base64," + "iVBO4111" * 1_000_000],
    ids=["letters", "digits", "spaced", "pairs", "dots", "groups", "plus", "at", "brackets", "image"],
)  # fmt: skip
def test_no_text_takes_it_long(text: str) -> None:
    began = time.process_time()
    redact(text, ALL)
    assert time.process_time() - began < 5
