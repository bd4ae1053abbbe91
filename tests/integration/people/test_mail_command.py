"""`make mail` shows what the emulator's SES was given."""

import socket

import pytest
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

from local import cli
from shared.mail import service as mail
from tests.emulator import Emulator
from tests.http_server import listening
from tests.services import Services


def command(monkeypatch: pytest.MonkeyPatch, *, port: str) -> int:
    monkeypatch.setenv("RUNYARD_EMULATOR_PORT", port)
    return cli.main(["mail"])


def test_letters_are_shown_oldest_first_without_what_moves_the_cursor(
    services: Services, emulator: Emulator, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    mail.send(to="ada@example.org", subject="First", text="Open https://runyard.test/account#confirm-email=abc\n")
    mail.send(to="eve@example.org", subject="Second", text="From \x1b[2Jsomebody\n")
    assert command(monkeypatch, port=str(services.home.ports.emulator)) == 0
    shown = capsys.readouterr().out
    assert shown.index("To:      ada@example.org\nSubject: First") < shown.index("To:      eve@example.org")
    assert "Open https://runyard.test/account#confirm-email=abc\n" in shown
    assert "\x1b" not in shown
    assert "letters." in shown


def test_a_home_that_has_sent_none_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    route = Route("/_ministack/ses/messages", lambda _: JSONResponse({"messages": {}}))
    with listening(Starlette(routes=[route])) as url:
        assert command(monkeypatch, port=url.rpartition(":")[2]) == 0
    assert capsys.readouterr().out.strip() == "No mail has been sent yet."


def test_without_the_emulator_it_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        assert command(monkeypatch, port=str(silent.getsockname()[1])) == 1
    assert "make up" in "".join(capsys.readouterr())
