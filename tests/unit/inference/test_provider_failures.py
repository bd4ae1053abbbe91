"""What a provider's refusals mean, in the words of each of them."""

from email.utils import formatdate

import pytest

from shared.inference.errors import (
    ContextTooLong,
    ModelNotFound,
    ProviderMisconfigured,
    ProviderRateLimited,
    ProviderRefused,
    ProviderTimedOut,
)
from shared.inference.providers import failures
from shared.kernel.errors import ProviderFailed, RunyardError

KEY = "sk-canary-0123456789"

MEANINGS: list[tuple[int, type[RunyardError]]] = [
    (302, ProviderMisconfigured),
    (400, ProviderRefused),
    (401, ProviderMisconfigured),
    (402, ProviderMisconfigured),
    (403, ProviderMisconfigured),
    (404, ModelNotFound),
    (408, ProviderTimedOut),
    (409, ProviderFailed),
    (413, ProviderRefused),
    (422, ProviderRefused),
    (429, ProviderRateLimited),
    (500, ProviderFailed),
    (503, ProviderFailed),
    (529, ProviderFailed),
]


@pytest.mark.parametrize(("status", "error"), MEANINGS, ids=[str(status) for status, _ in MEANINGS])
@pytest.mark.parametrize("body", [None, [], "no", {"error": "no"}, {"error": {"message": None}}], ids=str)
def test_a_status_has_a_meaning_whatever_comes_with_it(status: int, error: type[RunyardError], body: object) -> None:
    assert type(failures.of_status(status, body, {})) is error


TOO_LONG = {
    "openai": {"code": "context_length_exceeded", "message": "Your input exceeds the context window of this model."},
    "vllm": {
        "code": 400,
        "message": "This model's maximum context length is 4096 tokens. However, you requested 5000.",
    },
    "ollama": {"message": "the prompt is too long for the available context"},
    "llama.cpp": {"message": "the request exceeds the available context size, try increasing it"},
    "anthropic": {"type": "invalid_request_error", "message": "prompt is too long: 208310 tokens > 200000 maximum"},
    "anthropic-output": {"message": "input length and `max_tokens` exceed context limit: 1 + 2 > 3"},
    "bedrock": {"message": "Input is too long for requested model."},
    "bedrock-count": {"message": "Too many input tokens. Max input tokens: 300000"},
}


@pytest.mark.parametrize("said", TOO_LONG.values(), ids=TOO_LONG.keys())
def test_a_prompt_that_does_not_fit_is_told_apart(said: dict[str, object]) -> None:
    error = failures.of_status(400, {"error": said}, {})
    assert type(error) is ContextTooLong
    assert error.code == "context_length_exceeded"


def test_other_refusals_keep_the_providers_code_and_field() -> None:
    said = {"message": "No such tool.", "code": "invalid_function_parameters", "param": "tools[0]"}
    error = failures.of_status(400, {"error": said}, {}, key=KEY)
    assert (error.code, error.param) == ("invalid_function_parameters", "tools[0]")
    assert "No such tool." in error.message


def test_an_account_without_money_is_no_limit_of_the_rate() -> None:
    error = failures.of_status(429, {"error": {"code": "insufficient_quota", "message": "Check your plan."}}, {})
    assert type(error) is ProviderMisconfigured


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        ("7", 7),
        ("0", 1),
        ("0.4", 1),
        ("-5", 1),
        ("999999", 3_600),
        ("inf", None),
        ("nan", None),
        ("soon", None),
        ("", None),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 1),
    ],
    ids=str,
)
def test_the_time_to_wait_is_bounded(given: str, seconds: int | None) -> None:
    assert failures.of_status(429, None, {"retry-after": given}).retry_after_s == seconds
    assert failures.of_status(503, None, {"retry-after": given}).retry_after_s == seconds


def test_the_time_to_wait_may_be_a_date() -> None:
    from time import time

    found = failures.retry_after_s({"retry-after": formatdate(time() + 30, usegmt=True)})
    assert found is not None
    assert 28 <= found <= 31


@pytest.mark.parametrize("status", [status for status, _ in MEANINGS])
def test_a_key_that_a_provider_repeats_is_struck_out(status: int) -> None:
    said = {"message": f"Wrong key: {KEY}, for {KEY}.", "code": KEY, "param": KEY, "type": KEY}
    error = failures.of_status(status, {"error": said}, {}, key=KEY)
    assert KEY not in f"{error.message}{error.code}{error.param}{error!r}"


def test_without_a_key_the_words_stay_as_they_are() -> None:
    assert "no reason" in failures.of_status(400, None, {}, key="").message
    assert failures.without("abc", "") == "abc"


def test_a_long_reason_is_cut() -> None:
    assert len(failures.of_status(400, {"error": {"message": "x" * 10_000}}, {}).message) == 1_000


@pytest.mark.parametrize(
    ("said", "error"),
    [
        ({"type": "overloaded_error", "message": "Overloaded"}, ProviderFailed),
        ({"type": "rate_limit_error", "message": "Slow down"}, ProviderRateLimited),
        ({"code": "rate_limit_exceeded"}, ProviderRateLimited),
        ({"type": "invalid_request_error", "message": "No."}, ProviderRefused),
        ({"code": "context_length_exceeded"}, ContextTooLong),
        ({}, ProviderFailed),
    ],
    ids=str,
)
def test_errors_that_come_in_a_stream_have_a_meaning(said: dict[str, str], error: type[RunyardError]) -> None:
    assert type(failures.of_stream({"error": said}, key=KEY)) is error


def test_a_bare_error_leads_to_no_other() -> None:
    try:
        try:
            raise ValueError(KEY)
        except ValueError as error:
            raise ProviderFailed("no") from error
    except ProviderFailed as error:
        bare = failures.bare(error)
    assert (bare.__cause__, bare.__context__, bare.__traceback__) == (None, None, None)
