"""Counts tokens by one stated rule: up to four word characters, or one other character, is a token.

White space belongs to the token that follows it (white space at the end is one token). It is no real
tokenizer's count; it is the same on every machine, needs no vocabulary, and is near four characters a token
in English.
"""

import re
from collections.abc import Iterable

from local.offline_model.schemas import Message, Tool

# What the chat format adds, as with OpenAI's own models: three for a message, three for the answer.
TOKENS_PER_MESSAGE = 3
TOKENS_PER_ANSWER = 3
# As OpenAI counts an image in low detail, whatever its size: nobody here looks at it.
TOKENS_PER_IMAGE = 85

_TOKEN = re.compile(r"\s*(?:\w{1,4}|[^\w\s])|\s+")


def split(text: str) -> list[str]:
    """Return the tokens of a text; joined they are the text again."""
    return _TOKEN.findall(text)


def count(text: str) -> int:
    return len(split(text))


def count_prompt(messages: Iterable[Message], tools: Iterable[Tool]) -> int:
    """Return the tokens of a request: texts, tool calls, images, definitions of tools, and the format's own."""
    total = TOKENS_PER_ANSWER
    for message in messages:
        total += TOKENS_PER_MESSAGE + count(message.text) + TOKENS_PER_IMAGE * message.images
        for call in message.tool_calls or ():
            total += count(call.function.name) + count(call.function.arguments)
    return total + sum(count(tool.model_dump_json()) for tool in tools)
