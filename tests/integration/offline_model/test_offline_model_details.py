"""What the offline model shows of a real one when asked: images taken, tokens told apart, a stream that takes time."""

import itertools
import time
from typing import Any

import openai
import pytest
from openai import OpenAI
from openai.types import CompletionUsage
from openai.types.chat import ChatCompletionContentPartParam, ChatCompletionUserMessageParam

MODEL = "runyard-offline"
PIXEL = "data:image/gif;base64,R0lGODlhAQABAAAAACH5BAEKAAEALAAAAAABAAEAAAICTAEAOw=="


def user(text: str, *images: str) -> ChatCompletionUserMessageParam:
    parts: list[ChatCompletionContentPartParam] = [{"type": "text", "text": text}]
    parts += [{"type": "image_url", "image_url": {"url": image}} for image in images]
    return {"role": "user", "content": parts}


def answer_and_usage(
    client: OpenAI, message: ChatCompletionUserMessageParam, **options: Any
) -> tuple[str, CompletionUsage]:
    completion = client.chat.completions.create(model=MODEL, messages=[message], **options)
    assert completion.usage is not None
    return completion.choices[0].message.content or "", completion.usage


@pytest.mark.parametrize(
    ("images", "told"),
    [
        pytest.param([PIXEL], "You sent an image, which I can't see.", id="in-the-request"),
        pytest.param([PIXEL, "https://example.com/cat.png"], "You sent 2 images, which I can't see.", id="two"),
    ],
)
def test_images_are_taken_counted_and_mentioned(client: OpenAI, images: list[str], told: str) -> None:
    without, plain = answer_and_usage(client, user("Look."))
    text, usage = answer_and_usage(client, user("Look.", *images))

    assert told in text
    assert "image" not in without
    assert usage.prompt_tokens == plain.prompt_tokens + 85 * len(images)


@pytest.mark.parametrize("url", ["ftp://example.com/cat.png", "cat.png", "data:text/plain,cat"])
def test_what_is_no_image_is_refused(client: OpenAI, url: str) -> None:
    with pytest.raises(openai.BadRequestError):
        answer_and_usage(client, user("Look.", url))


def test_tokens_from_a_cache_are_part_of_the_prompts(client: OpenAI) -> None:
    _, usage = answer_and_usage(client, user("offline: cached 5\noffline: say Hello."))
    assert usage.prompt_tokens_details is not None
    assert usage.prompt_tokens_details.cached_tokens == 5
    assert usage.prompt_tokens > 5

    _, usage = answer_and_usage(client, user("offline: cached 1000000"))
    assert usage.prompt_tokens_details is not None
    assert usage.prompt_tokens_details.cached_tokens == usage.prompt_tokens


def test_thoughts_are_part_of_the_answers_tokens_and_of_its_limit(client: OpenAI) -> None:
    _, usage = answer_and_usage(client, user("offline: reason 40\noffline: say Hello, worlds!"))
    assert usage.completion_tokens_details is not None
    assert usage.completion_tokens_details.reasoning_tokens == 40
    # Hell|o|,|worl|ds|!
    assert usage.completion_tokens == 46
    assert usage.total_tokens == usage.prompt_tokens + 46

    text, usage = answer_and_usage(
        client, user("offline: reason 40\noffline: say Hello, worlds!"), max_completion_tokens=42
    )
    assert (text, usage.completion_tokens) == ("Hello", 42)

    text, usage = answer_and_usage(
        client, user("offline: reason 40\noffline: say Hello, worlds!"), max_completion_tokens=30
    )
    assert usage.completion_tokens_details is not None
    assert (text, usage.completion_tokens, usage.completion_tokens_details.reasoning_tokens) == ("", 30, 30)


def test_without_directives_nothing_was_cached_or_thought(client: OpenAI) -> None:
    _, usage = answer_and_usage(client, user("Hello"))
    assert usage.prompt_tokens_details is not None
    assert usage.completion_tokens_details is not None
    assert usage.prompt_tokens_details.cached_tokens == 0
    assert usage.completion_tokens_details.reasoning_tokens == 0


def test_a_paced_stream_gives_each_token_in_its_own_time(client: OpenAI) -> None:
    def shortest_pause_s() -> float:
        stream = client.chat.completions.create(
            model=MODEL, messages=[user("offline: pace 60\noffline: say one two three")], stream=True
        )
        moments = [time.monotonic() for _ in stream]
        assert len(moments) == 6  # the role, one|two|thre|e, the end
        return min(later - earlier for earlier, later in itertools.pairwise(moments))

    # A reader who is held up gets two at once, but not every time.
    assert any(shortest_pause_s() > 0.03 for _ in range(8))
