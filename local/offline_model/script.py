"""The script: which scene a conversation plays, and what the offline model says or calls next.

Everything here is a pure function of the messages and the tools. Where a scene stands is told by the number
of tool results since the last user message, so that the same request asked twice gets the same answer.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from local.offline_model.conversation import Conversation
from local.offline_model.schemas import CHAT_MODEL

WRITE_FILE = "sandbox_write_file"
EXEC = "sandbox_exec"
SAVE_MEMORY = "memory_save"

WORDS_ECHOED = 12

PROGRAM_PATH = "primes.py"
PROGRAM_COMMAND = f"python3 {PROGRAM_PATH}"
PROGRAM = '''"""Print the first twenty primes, their sum and a checksum of the list."""

import hashlib
from itertools import count, islice


def primes():
    found = []
    for number in count(2):
        if all(number % prime for prime in found):
            found.append(number)
            yield number


first = list(islice(primes(), 20))
listing = " ".join(map(str, first))
print("primes:", listing)
print("sum:", sum(first))
print("sha256:", hashlib.sha256(listing.encode()).hexdigest())
'''

SIGNATURE = (
    f"(This is the answer of the scripted offline model, {CHAT_MODEL}: it is not a real model and does "
    "the same whatever it is asked. Set OPENAI_API_KEY to use a real one.)"
)


@dataclass(frozen=True, slots=True)
class Call:
    tool: str
    arguments: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Turn:
    """What is answered next: calls, or else a text."""

    text: str = ""
    calls: tuple[Call, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class Scene:
    """`rounds` are the calls of each step in order, `answer` the text once all are done or one has failed."""

    applies: Callable[[Conversation], bool]
    rounds: Callable[[Conversation], tuple[tuple[Call, ...], ...]]
    answer: Callable[[Conversation], str]


def next_turn(conversation: Conversation, *, parallel: bool = True) -> Turn:
    """Return the next turn of the first scene that applies; `parallel=False` gives one call at a time."""
    scene = next(scene for scene in SCENES if scene.applies(conversation))
    if conversation.first_failure is not None:
        return Turn(text=_tell_failure(conversation))
    done = len(conversation.results)
    for calls in scene.rounds(conversation):
        if done < len(calls):
            left = calls[done:]
            return Turn(calls=left if parallel else left[:1])
        done -= len(calls)
    return Turn(text=scene.answer(conversation))


def _directed_rounds(conversation: Conversation) -> tuple[tuple[Call, ...], ...]:
    if EXEC not in conversation.offered:
        return ()
    return tuple(tuple(Call(EXEC, {"shell": shell}) for shell in shells) for shells in conversation.asked.rounds)


def _directed_answer(conversation: Conversation) -> str:
    if conversation.asked.say is not None:
        return conversation.asked.say
    if not conversation.results:
        return f"No command was run, because the tool {EXEC} is not offered here.\n\n{SIGNATURE}"
    done = f"{len(conversation.results)} commands were run; the last one"
    if len(conversation.results) == 1:
        done = "One command was run; it"
    return f"{done} printed:\n\n{conversation.last_output(EXEC)}\n\n{SIGNATURE}"


def _primes_rounds(conversation: Conversation) -> tuple[tuple[Call, ...], ...]:
    sentence = f"{PROGRAM_COMMAND} printed: {'; '.join(conversation.last_output(EXEC).splitlines())}"
    calls = (
        Call(WRITE_FILE, {"path": PROGRAM_PATH, "content": PROGRAM}),
        Call(EXEC, {"shell": PROGRAM_COMMAND}),
        Call(SAVE_MEMORY, {"content": sentence, "importance": 0.5}),
    )
    return tuple((call,) for call in calls if call.tool in conversation.offered)


def _primes_answer(conversation: Conversation) -> str:
    kept = " I kept that as a memory." if SAVE_MEMORY in conversation.offered else ""
    return (
        f"I wrote {PROGRAM_PATH} and ran it with `{PROGRAM_COMMAND}`.{kept} It printed:\n\n"
        f"{conversation.last_output(EXEC)}\n\n{SIGNATURE}"
    )


def _echo(conversation: Conversation) -> str:
    words = conversation.question.split()
    heard = " ".join(words[:WORDS_ECHOED]) + (" …" if len(words) > WORDS_ECHOED else "")
    sent = {0: "", 1: " You sent an image, which I can't see."}
    images = sent.get(conversation.images, f" You sent {conversation.images} images, which I can't see.")
    return f'You asked: "{heard}"{images}\n\n{SIGNATURE}'


def _tell_failure(conversation: Conversation) -> str:
    failed = conversation.first_failure
    if failed is None:
        raise ValueError("no call has failed")
    text = f"The call of {failed.tool} failed, so I stopped there. It said: {failed.failure}"
    printed = conversation.last_output(EXEC)
    if printed and failed.tool != EXEC:
        text += f"\n\nBefore that, {EXEC} printed:\n\n{printed}"
    return f"{text}\n\n{SIGNATURE}"


# The first that applies is played.
SCENES = (
    Scene(
        applies=lambda conversation: bool(conversation.asked.rounds) or conversation.asked.say is not None,
        rounds=_directed_rounds,
        answer=_directed_answer,
    ),
    Scene(
        applies=lambda conversation: conversation.offered >= {WRITE_FILE, EXEC},
        rounds=_primes_rounds,
        answer=_primes_answer,
    ),
    Scene(applies=lambda _: True, rounds=lambda _: (), answer=_echo),
)
