"""What is kept of a call: always what it took and cost, what was said only where the org asks for it."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from shared.billing import service as billing
from shared.inference import configuring, gateway, org_settings, store
from shared.inference.asking import Ask, CacheControl, Reply
from shared.inference.calls import CacheStatus, Call, Outcome
from shared.inference.config import Settings
from shared.inference.model import ChatRequest
from shared.inference.trace import Trace
from shared.kernel import clock, db, ids
from shared.kernel.caller import Caller
from shared.kernel.errors import ProviderFailed
from shared.kernel.pagination import Slice
from tests.model_provider import Provider

SECRET = ChatRequest(messages=[{"role": "user", "content": "offline: say write to grace@example.com"}])


@pytest.fixture
def funded(org: Caller, operator: Caller, provider: Provider) -> Caller:
    with db.tenant(org) as tx:
        billing.grant(tx, org, amount_microusd=1_000_000, source_id=str(ids.new()), reason="test")
    return replace(org, request_id="req_1")


def complete(caller: Caller, **changes: Any) -> Reply:
    known = Ask(
        caller=caller,
        request=SECRET,
        source_id=f"api:{ids.new()}",
        timeout_s=10,
        began_ms=clock.monotonic_ms(),
    )
    return asyncio.run(gateway.complete(replace(known, **changes), Trace()))


def recorded(caller: Caller) -> list[Call]:
    with db.tenant(caller) as tx:
        return store.list_calls(tx, Slice(limit=50), store.Filter())


def setting(caller: Caller, settings: Settings) -> None:
    with configuring.changing(caller) as tx:
        org_settings.set_settings(tx, caller, settings)


def test_by_default_nothing_that_was_said_is_kept(funded: Caller) -> None:
    reply = complete(funded)

    [call] = recorded(funded)
    assert reply.answer["choices"][0]["message"]["content"].startswith("write to")
    assert (call.prompt, call.answer) == (None, {})
    assert (call.request_id, call.provider, call.outcome) == ("req_1", "127.0.0.1", Outcome.OK)
    assert call.attribution == funded.attribution
    assert (call.tokens.input > 0, call.tokens.output > 0, call.cost_microusd > 0) == (True, True, True)


def test_what_was_said_is_kept_where_the_org_wants_it_without_what_it_names(funded: Caller) -> None:
    setting(funded, Settings(record_content=True, redact=frozenset({"email"})))

    reply = complete(funded)

    # Whoever asked gets what was said.
    assert reply.answer["choices"][0]["message"]["content"].startswith("write to grace@example.com")
    [call] = recorded(funded)
    assert call.prompt is not None
    assert call.prompt["messages"][0]["content"] == "offline: say write to [email]"
    assert call.answer["choices"][0]["message"]["content"].startswith("write to [email]")


def test_what_may_be_asked_again_is_kept_word_for_word(funded: Caller) -> None:
    setting(funded, Settings(record_content=True, redact=frozenset({"email"})))

    first = complete(funded, source_id="once", repeatable=True)
    again = complete(funded, source_id="once", repeatable=True)

    assert again.repeated
    assert again.answer == first.answer
    assert "grace@example.com" in str(again.answer)
    [call] = recorded(funded)
    assert "grace@example.com" not in str(call.prompt)


def test_a_hit_is_recorded_as_a_call_that_cost_nothing(funded: Caller) -> None:
    first, again = (complete(funded, cache=CacheControl()) for _ in range(2))

    assert [reply.cache for reply in (first, again)] == [CacheStatus.MISS, CacheStatus.HIT]
    assert again.answer == first.answer
    hit, miss = recorded(funded)
    assert (hit.cache, hit.cost_microusd, hit.tokens.input, hit.model) == (CacheStatus.HIT, 0, 0, miss.model)
    with db.tenant(funded) as tx:
        assert billing.balance(tx).settled_microusd == miss.cost_microusd


def test_a_failure_is_recorded_with_its_code_and_costs_nothing(funded: Caller, provider: Provider) -> None:
    provider.fails(500, times=3)

    with pytest.raises(ProviderFailed):
        complete(funded)

    [call] = recorded(funded)
    assert (call.outcome, call.error_code, call.cost_microusd) == (Outcome.FAILED, "provider_failed", 0)
    with db.tenant(funded) as tx:
        assert billing.balance(tx).held_microusd == 0


def test_an_old_answer_is_given_rather_than_an_error_to_who_takes_it(funded: Caller, provider: Provider) -> None:
    setting(funded, Settings(cache_ttl_s=1))
    first = complete(funded, cache=CacheControl())
    control = CacheControl(max_age_s=0, stale_if_error_s=600)
    provider.fails(500, times=6)

    stale = complete(funded, cache=control)
    with pytest.raises(ProviderFailed):
        complete(funded, cache=replace(control, stale_if_error_s=0))

    assert stale.cache is CacheStatus.STALE
    assert stale.answer == first.answer
    assert stale.call.cost_microusd == 0
    assert stale.age_s is not None


def test_embeddings_that_are_known_cost_nothing_and_only_the_others_are_asked_for(
    funded: Caller, provider: Provider
) -> None:
    def embed(*texts: str) -> Any:
        return asyncio.run(
            gateway.embed(
                funded,
                texts=texts,
                model=None,
                dimensions=None,
                source_id=f"api:{ids.new()}",
                repeatable=False,
                trace=Trace(),
                cache=CacheControl(),
                timeout_s=10,
            )
        )

    first = embed("blue", "green", "blue")
    again = embed("green", "red")
    all_known = embed("red", "blue")

    assert [asked.body["input"] for asked in provider.asked] == [["blue", "green"], ["red"]]
    assert first.vectors[0] == first.vectors[2] == all_known.vectors[1]
    assert again.vectors[0] == first.vectors[1]
    assert (all_known.cost_microusd, all_known.cache) == (0, CacheStatus.HIT)
    assert (again.cache, again.tokens.input > 0, all_known.tokens.input) == (CacheStatus.MISS, True, 0)
