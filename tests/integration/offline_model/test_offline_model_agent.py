"""The scripted agent writes a program, runs it, remembers, answers; its calls are really carried out here."""

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import OpenAI
from openai.types.chat import (
    ChatCompletionFunctionToolParam,
    ChatCompletionMessage,
    ChatCompletionMessageFunctionToolCall,
    ChatCompletionMessageParam,
)

MODEL = "runyard-offline"
PRIMES = "2 3 5 7 11 13 17 19 23 29 31 37 41 43 47 53 59 61 67 71"
Answers = Callable[[str, dict[str, Any]], str]


def tool(name: str, *required: str) -> ChatCompletionFunctionToolParam:
    properties = {argument: {"type": "string"} for argument in required}
    parameters: dict[str, object] = {"type": "object", "properties": properties, "required": list(required)}
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


TOOLS = [
    tool("sandbox_write_file", "path", "content"),
    tool("sandbox_exec", "shell"),
    tool("memory_save", "content"),
]


def calls_of(message: ChatCompletionMessage) -> list[tuple[str, str, dict[str, Any]]]:
    """The calls of an answer: id, tool, arguments."""
    calls = []
    for call in message.tool_calls or []:
        assert isinstance(call, ChatCompletionMessageFunctionToolCall)
        calls.append((call.id, call.function.name, json.loads(call.function.arguments)))
    return calls


def converse(client: OpenAI, question: str, answers: Answers, **options: Any) -> tuple[str, list[list[str]]]:
    """Run the tool loop until the model answers in text; return it and the tools called in each step."""
    messages: list[ChatCompletionMessageParam] = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": question},
    ]
    steps: list[list[str]] = []
    seen_ids: set[str] = set()
    while True:
        options = {"tools": TOOLS, **options}
        completion = client.chat.completions.create(model=MODEL, messages=messages, **options)
        [choice] = completion.choices
        calls = calls_of(choice.message)
        if not calls:
            assert choice.finish_reason == "stop"
            assert choice.message.content is not None
            return choice.message.content, steps
        assert choice.finish_reason == "tool_calls"
        steps.append([name for _, name, _ in calls])
        messages.append(
            {
                "role": "assistant",
                "tool_calls": [
                    {
                        "id": id_,
                        "type": "function",
                        "function": {"name": name, "arguments": json.dumps(arguments)},
                    }
                    for id_, name, arguments in calls
                ],
            }
        )
        for id_, name, arguments in calls:
            assert id_ not in seen_ids
            seen_ids.add(id_)
            messages.append({"role": "tool", "tool_call_id": id_, "content": answers(name, arguments)})


class Workspace:
    """Carries out the calls in a folder, and keeps what was remembered."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.memories: list[str] = []
        self.shells: list[str] = []

    def __call__(self, name: str, arguments: dict[str, Any]) -> str:
        match name:
            case "sandbox_write_file":
                (self.folder / arguments["path"]).write_text(arguments["content"])
                return json.dumps({"path": arguments["path"], "size_bytes": len(arguments["content"])})
            case "sandbox_exec":
                self.shells.append(arguments["shell"])
                shell = arguments["shell"].replace("python3", sys.executable)
                done = subprocess.run(shell, shell=True, cwd=self.folder, capture_output=True, text=True)
                outcome = {"stdout": done.stdout, "stderr": done.stderr, "exit_code": done.returncode}
                return json.dumps({"status": "exited", **outcome})
            case "memory_save":
                self.memories.append(arguments["content"])
                return json.dumps({"id": "mem_1"})
        raise AssertionError(name)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path)


def test_it_writes_a_program_runs_it_remembers_the_result_and_answers(client: OpenAI, workspace: Workspace) -> None:
    answer, steps = converse(client, "Which are the first primes?", workspace)

    assert steps == [["sandbox_write_file"], ["sandbox_exec"], ["memory_save"]]
    assert workspace.shells == ["python3 primes.py"]
    digest = hashlib.sha256(PRIMES.encode()).hexdigest()
    assert f"primes: {PRIMES}\nsum: 639\nsha256: {digest}" in answer
    assert "scripted offline model" in answer
    [memory] = workspace.memories
    assert PRIMES in memory
    assert digest in memory


def test_the_answer_quotes_what_the_tool_said_and_not_what_the_program_should_print(
    client: OpenAI, workspace: Workspace
) -> None:
    def answers(name: str, arguments: dict[str, Any]) -> str:
        if name == "sandbox_exec":
            return json.dumps({"stdout": "a surprise\n", "exit_code": 0})
        return workspace(name, arguments)

    answer, _ = converse(client, "Which are the first primes?", answers)

    assert "a surprise" in answer
    assert PRIMES not in answer
    assert workspace.memories == ["python3 primes.py printed: a surprise"]


def test_without_a_memory_tool_nothing_is_said_to_be_remembered(client: OpenAI, workspace: Workspace) -> None:
    answer, steps = converse(client, "Which are the first primes?", workspace, tools=TOOLS[:2])

    assert steps == [["sandbox_write_file"], ["sandbox_exec"]]
    assert "memory" not in answer


@pytest.mark.parametrize(
    ("failed_tool", "result", "told"),
    [
        (
            "sandbox_write_file",
            '{"error": {"code": "sandbox_lost", "message": "the sandbox is gone"}}',
            "is gone",
        ),
        (
            "sandbox_exec",
            '{"exit_code": 2, "stdout": "", "stderr": "no such file"}',
            "exit code 2: no such file",
        ),
        ("sandbox_exec", '{"status": "timed_out", "exit_code": null, "stdout": ""}', "status timed_out"),
        ("memory_save", "Error: memory is full", "memory is full"),
    ],
)
def test_a_failed_call_is_told_plainly_and_ends_the_scene(
    client: OpenAI, workspace: Workspace, failed_tool: str, result: str, told: str
) -> None:
    def answers(name: str, arguments: dict[str, Any]) -> str:
        return result if name == failed_tool else workspace(name, arguments)

    answer, steps = converse(client, "Which are the first primes?", answers)

    assert f"The call of {failed_tool} failed" in answer
    assert told in answer
    assert steps[-1] == [failed_tool]
    # What did succeed before it is still told.
    assert (PRIMES in answer) == (failed_tool == "memory_save")


def test_a_second_question_in_one_conversation_starts_the_scene_again(client: OpenAI) -> None:
    def tool_names(messages: list[ChatCompletionMessageParam]) -> list[str]:
        completion = client.chat.completions.create(model=MODEL, messages=messages, tools=TOOLS)
        return [name for _, name, _ in calls_of(completion.choices[0].message)]

    function = {"name": "sandbox_write_file", "arguments": "{}"}
    first_turn: list[ChatCompletionMessageParam] = [
        {"role": "user", "content": "Primes?"},
        {"role": "assistant", "tool_calls": [{"id": "a", "type": "function", "function": function}]},  # type: ignore[typeddict-item]
        {"role": "tool", "tool_call_id": "a", "content": "{}"},
    ]
    assert tool_names(first_turn) == ["sandbox_exec"]
    answered: list[ChatCompletionMessageParam] = [
        *first_turn,
        {"role": "assistant", "content": "Done."},
        {"role": "user", "content": "And again?"},
    ]
    assert tool_names(answered) == ["sandbox_write_file"]


def test_an_exec_directive_runs_that_shell_and_quotes_its_output(client: OpenAI, workspace: Workspace) -> None:
    question = "Please.\n  offline: exec echo one two\noffline: exec pwd"
    answer, steps = converse(client, question, workspace)

    assert steps == [["sandbox_exec"], ["sandbox_exec"]]
    assert workspace.shells == ["echo one two", "pwd"]
    assert str(workspace.folder) in answer


def test_steps_and_parallel_make_that_many_rounds_of_that_many_calls(client: OpenAI, workspace: Workspace) -> None:
    answer, steps = converse(client, "offline: steps 3\noffline: parallel 4", workspace)

    assert steps == [["sandbox_exec"] * 4] * 3
    assert len(set(workspace.shells)) == 12
    assert "12 commands were run" in answer
    assert "step 3 call 4" in answer


def test_steps_with_an_exec_line_repeat_the_same_call(client: OpenAI, workspace: Workspace) -> None:
    converse(client, "offline: exec echo again\noffline: steps 3", workspace)

    assert workspace.shells == ["echo again"] * 3


def test_parallel_calls_come_one_at_a_time_when_the_client_wants_that(client: OpenAI, workspace: Workspace) -> None:
    question = "offline: parallel 3"
    _, steps = converse(client, question, workspace, parallel_tool_calls=False)

    assert steps == [["sandbox_exec"]] * 3
    assert len(set(workspace.shells)) == 3


def test_say_answers_exactly_that_after_the_rounds(client: OpenAI, workspace: Workspace) -> None:
    answer, steps = converse(client, "offline: say All is well.\noffline: steps 1", workspace)

    assert answer == "All is well."
    assert steps == [["sandbox_exec"]]
    assert converse(client, "offline: say Nothing run.", workspace) == ("Nothing run.", [])


def test_an_exec_directive_without_the_tool_says_that_nothing_was_run(client: OpenAI, workspace: Workspace) -> None:
    answer, steps = converse(client, "offline: exec pwd", workspace, tools=TOOLS[2:])

    assert steps == []
    assert "sandbox_exec is not offered" in answer


@pytest.mark.parametrize("line", ["dance", "steps", "steps 0", "steps 101", "parallel x", "fail 418", "exec"])
def test_a_slip_in_a_directive_is_refused(client: OpenAI, line: str) -> None:
    with pytest.raises(openai.BadRequestError, match=line.split()[0]):
        client.chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": f"offline: {line}"}], tools=TOOLS
        )


def test_a_tool_named_by_the_client_is_called_with_arguments_that_fit_its_schema(client: OpenAI) -> None:
    completion = client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": "Which are the first primes?"}],
        tools=TOOLS,
        tool_choice={"type": "function", "function": {"name": "memory_save"}},
    )
    [(_, name, arguments)] = calls_of(completion.choices[0].message)

    assert (name, arguments) == ("memory_save", {"content": ""})


def test_tool_choice_none_calls_no_tool(client: OpenAI) -> None:
    completion = client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": "Which are the first primes?"}],
        tools=TOOLS,
        tool_choice="none",
    )

    assert completion.choices[0].message.tool_calls is None
    assert completion.choices[0].finish_reason == "stop"
