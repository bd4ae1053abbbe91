"""What counts as the same command, and what as none."""

from typing import Any

import msgspec
import pytest

from sandbox.command_messages import CommandRequest


def _decode(**fields: Any) -> CommandRequest:
    return msgspec.json.decode(msgspec.json.encode({"id": "cmd_1"} | fields), type=CommandRequest)


def test_how_long_one_waits_makes_no_other_command() -> None:
    assert _decode(shell="ls", wait_s=0).fingerprint() == _decode(shell="ls", wait_s=9.5).fingerprint()


def test_the_order_of_variables_makes_no_other_command() -> None:
    one, other = _decode(shell="ls", env={"A": "1", "B": "2"}), _decode(shell="ls", env={"B": "2", "A": "1"})
    assert one.fingerprint() == other.fingerprint()


@pytest.mark.parametrize(
    "change",
    [
        {"shell": "ls -l"},
        {"cwd": "/tmp"},
        {"env": {"A": "1"}},
        {"stdin": "x"},
        {"timeout_s": 1},
        {"max_output_bytes": 1},
    ],
)
def test_everything_else_does(change: dict[str, Any]) -> None:
    assert _decode(**{"shell": "ls"} | change).fingerprint() != _decode(shell="ls").fingerprint()


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"argv": []},
        {"argv": [""]},
        {"argv": ["ls"], "shell": "ls"},
        {"shell": "a\0b"},
        {"shell": "ls", "cwd": "\0"},
        {"shell": "ls", "env": {"": "x"}},
        {"shell": "ls", "env": {"A": 1}},
        {"shell": "ls", "timeout_s": 0},
        {"shell": "ls", "wait_s": 61},
        {"shell": "ls", "max_output_bytes": -1},
        {"shell": "ls", "id": "../x"},
        {"shell": "ls", "id": "x\n"},
        {"shell": "ls", "unknown": 1},
    ],
)
def test_what_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        _decode(**wrong)
