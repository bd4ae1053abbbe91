"""Parameters that OpenAI's API has none of, sent by its real client: for whom an org allowed them, and nobody else."""

from collections.abc import Iterator
from typing import Any

import openai
import pytest
from openai import OpenAI

from shared.inference import accounts, configuring, routes
from shared.inference.config import ProviderKind
from shared.inference.policy import Candidate, Ensemble, Route
from shared.kernel import settings
from shared.kernel.caller import Caller
from tests.model_provider import Provider

HELLO: Any = [{"role": "user", "content": "hello"}]
BEYOND = {"top_k": 7, "chat_template_kwargs": {"enable_thinking": False}}
# What the platform offers, and what the org's own provider does.
PLATFORMS, OWN = "runyard-offline", "vllm/runyard-offline"


@pytest.fixture
def client(url: str, api_key: str) -> Iterator[OpenAI]:
    with OpenAI(base_url=url, api_key=api_key, max_retries=0, timeout=20) as made:
        yield made


@pytest.fixture(autouse=True)
def vllm(org: Caller, provider: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    """A provider of the org's own, which knows two parameters more."""
    monkeypatch.setenv("RUNYARD_PRIVATE_PROVIDERS", "1")
    settings.forget()
    with configuring.changing(org) as tx:
        accounts.begin_account(
            tx,
            org,
            name="vllm",
            kind=ProviderKind.OPENAI,
            base_url=settings.model().base_url,
            region="",
            models=(),
            parameters=tuple(BEYOND),
            enabled=True,
            api_key=None,
        )


def set_up(org: Caller, route: Route) -> None:
    with configuring.changing(org) as tx:
        routes.create_route(tx, org, route)


def ask(client: OpenAI, model: str = OWN, **beyond: Any) -> str:
    answer = client.chat.completions.create(model=model, messages=HELLO, extra_body=beyond or BEYOND)
    return answer.choices[0].message.content or ""


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
def test_they_reach_the_provider_as_they_were_sent(client: OpenAI, provider: Provider, streamed: bool) -> None:
    if streamed:
        assert list(client.chat.completions.create(model=OWN, messages=HELLO, extra_body=BEYOND, stream=True))
    else:
        assert ask(client)
    sent = provider.asked[-1].body
    assert {name: sent[name] for name in BEYOND} == BEYOND


def test_what_the_provider_was_not_set_up_for_is_a_bad_request_error_that_names_it(
    client: OpenAI, provider: Provider
) -> None:
    for model, beyond, named in (
        (OWN, {"top_k": 7, "temprature": 1}, "temprature"),
        (PLATFORMS, {"top_k": 7}, "top_k"),
        (OWN, {"x" * 5_000: 1}, "x" * 64),
    ):
        with pytest.raises(openai.BadRequestError) as refused:
            ask(client, model, **beyond)
        assert (refused.value.code, refused.value.param) == ("invalid_request", named)
    assert provider.asked == []


def test_a_trial_run_refuses_them_too(client: OpenAI) -> None:
    assert client.post("/chat/completions?dry_run=true", cast_to=dict, body={"model": OWN, "messages": HELLO, **BEYOND})
    with pytest.raises(openai.BadRequestError) as refused:
        client.post(
            "/chat/completions?dry_run=true",
            cast_to=dict,
            body={"model": PLATFORMS, "messages": HELLO, **BEYOND},
        )
    assert refused.value.param == min(BEYOND)


def test_a_route_asks_only_candidates_that_may_be_given_them(client: OpenAI, org: Caller, provider: Provider) -> None:
    set_up(org, Route(name="either", candidates=[Candidate(model=PLATFORMS), Candidate(model=OWN)]))
    for beyond, asked in ((BEYOND, "vllm"), ({"seed": 1}, "127.0.0.1")):
        raw = client.chat.completions.with_raw_response.create(model="either", messages=HELLO, extra_body=beyond)
        assert raw.headers["x-runyard-provider"] == asked
    # Nor is one fallen back on.
    provider.fails(500)
    with pytest.raises(openai.InternalServerError):
        ask(client, "either", top_k=8)
    assert len(provider.asked) == 3


def test_an_ensembles_answers_are_made_with_them_and_its_verdict_is_not(
    client: OpenAI, org: Caller, provider: Provider
) -> None:
    candidates = [Candidate(model=PLATFORMS), Candidate(model=OWN), Candidate(model="vllm/another")]
    set_up(org, Route(name="council", candidates=candidates, ensemble=Ensemble(n=2, judge=OWN)))
    said = {"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 5, "completion_tokens": 1, "total_tokens": 6}
    provider.answers({"id": "x", "created": 1, "model": "m", "choices": [said], "usage": usage}, times=3)
    assert ask(client, "council") == "Hi"
    assert sorted("top_k" in asked.body for asked in provider.asked) == [False, True, True]


def test_another_value_is_another_request_to_the_cache(client: OpenAI, provider: Provider) -> None:
    for top_k in (1, 2, 1):
        ask(client, top_k=top_k)
    assert [asked.body["top_k"] for asked in provider.asked] == [1, 2]


def test_they_are_no_way_around_what_the_gateway_decides(client: OpenAI, provider: Provider) -> None:
    """Names of the gateway's own stay its own, however they are written."""
    for name in ("model ", "Messages", "stream_options.include_usage", "__proto__", "max_tokens\u200b"):
        with pytest.raises(openai.BadRequestError):
            ask(client, **{name: "other"})
    assert provider.asked == []
