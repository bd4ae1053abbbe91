"""A model call is recorded and charged once, and never costs more than was set aside for it."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest

from shared.billing import service as billing
from shared.inference import accounting, service
from shared.inference.calls import Call
from shared.inference.errors import (
    BudgetExceeded,
    ModelNotFound,
    ProviderAnsweredWrongly,
    ProviderMisconfigured,
    ProviderRateLimited,
    ProviderRefused,
    ProviderSuspended,
    ProviderTimedOut,
)
from shared.inference.model import ChatRequest, Completion
from shared.kernel import clock, db, ids
from shared.kernel.caller import Caller
from shared.kernel.errors import InsufficientCredits, ProviderFailed
from shared.usage import service as usage
from tests.model_provider import Provider

HELLO = ChatRequest(messages=[{"role": "user", "content": "hello"}])
GRANTED = 1_000_000


@pytest.fixture
def funded(org: Caller, operator: Caller, provider: Provider) -> Caller:
    """A tenant with one dollar of credits, before a healthy provider."""
    return with_credits(org)


def with_credits(caller: Caller) -> Caller:
    with db.tenant(caller) as tx:
        billing.grant(tx, caller, amount_microusd=GRANTED, source_id=str(ids.new()), reason="test")
    return caller


def complete(caller: Caller, source_id: str = "call-1", **options: Any) -> Completion:
    asked: dict[str, Any] = {"request": HELLO, "max_cost_microusd": None} | options
    return service.complete(caller, source_id=source_id, **asked)


def books(caller: Caller) -> tuple[int, int, int]:
    """Return what is held, what was settled, and what the usage ledger says was spent."""
    with db.tenant(caller) as tx:
        balance = billing.balance(tx)
        spent = usage.summary(tx, since=clock.now() - timedelta(hours=1), until=clock.now() + timedelta(hours=1))
        assert list(billing.check(tx)) == []
        return balance.held_microusd, balance.settled_microusd, sum(line.cost_microusd for line in spent)


def test_the_real_cost_is_settled_and_the_rest_of_the_hold_returns(funded: Caller) -> None:
    answer = complete(funded)

    assert answer.text
    assert answer.cost_microusd > 0
    assert books(funded) == (0, answer.cost_microusd, answer.cost_microusd)


def test_the_same_source_id_gets_the_first_answer_without_another_call(funded: Caller, provider: Provider) -> None:
    first = complete(funded)
    again = complete(funded, request=ChatRequest(messages=[{"role": "user", "content": "something else"}]))

    assert again.call == first.call
    assert len(provider.asked) == 1
    assert books(funded)[1] == first.cost_microusd


class Killed(BaseException):
    """Stands for the end of the process: nothing handles it."""


def test_killed_before_the_record_costs_one_more_call_and_no_second_charge(
    funded: Caller, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def kill(_: object) -> Call:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(accounting, "close_call", kill)
        with pytest.raises(Killed):
            complete(funded)
    answer = complete(funded)

    assert len(provider.asked) == 2
    held, settled, spent = books(funded)
    assert settled == spent == answer.cost_microusd
    # What the killed attempt had held comes back when its hold expires.
    assert held > 0
    later = clock.now() + timedelta(hours=1)
    monkeypatch.setattr(clock, "now", lambda: later)
    with db.tenant(funded) as tx:
        tx.execute("UPDATE credit_holds SET expires_at = now() - interval '1 second' WHERE status = 'open'")
        assert billing.release_expired(tx, funded) == 1
        assert billing.balance(tx).held_microusd == 0


def test_delivered_twice_at_once_both_get_one_answer_and_one_charge_is_made(funded: Caller, provider: Provider) -> None:
    provider.gate = threading.Barrier(2)

    with ThreadPoolExecutor(2) as two:
        first, second = two.map(lambda _: complete(funded), range(2))

    assert first.call.id == second.call.id
    assert books(funded) == (0, first.cost_microusd, first.cost_microusd)


def test_without_credits_the_provider_is_not_asked(org: Caller, provider: Provider) -> None:
    with pytest.raises(InsufficientCredits):
        complete(org)
    assert provider.asked == []


def test_a_budget_cuts_the_answer_short_rather_than_be_exceeded(funded: Caller, provider: Provider) -> None:
    generous = complete(funded, "generous", max_cost_microusd=GRANTED)
    limit = provider.asked[-1].body["max_completion_tokens"]
    frugal = complete(funded, "frugal", max_cost_microusd=_worst_case(output_tokens=3))

    assert limit == 4096
    assert provider.asked[-1].body["max_completion_tokens"] < limit
    assert frugal.cost_microusd <= generous.cost_microusd
    # The budget's owner holds the credits: nothing is held or settled here.
    assert books(funded)[:2] == (0, 0)


def _worst_case(*, output_tokens: int) -> int:
    price = billing.token_price("runyard-offline", at=clock.now())
    return price.most(input_tokens=HELLO.most_input_tokens(), output_tokens=output_tokens)


def test_a_budget_that_buys_no_token_is_told_so_before_the_call(funded: Caller, provider: Provider) -> None:
    with pytest.raises(BudgetExceeded) as refused:
        complete(funded, max_cost_microusd=0)
    assert refused.value.code == "budget_exceeded"
    assert provider.asked == []


def test_a_provider_that_counts_more_than_was_asked_for_is_paid_no_more_than_was_held(
    funded: Caller, provider: Provider
) -> None:
    provider.answers(
        {
            "id": "x",
            "created": 1,
            "model": "m",
            "choices": [{"index": 0, "message": {"role": "assistant", "content": "x"}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 10**9, "completion_tokens": 10**9, "total_tokens": 2 * 10**9},
        }
    )
    budget = _worst_case(output_tokens=3)

    answer = complete(funded, max_cost_microusd=budget)

    assert answer.cost_microusd == budget
    assert books(funded)[2] == budget


@pytest.mark.parametrize(
    ("told", "raised"),
    [
        (lambda it: it.fails(429, headers={"retry-after": "7"}), ProviderRateLimited),
        (lambda it: it.fails(500), ProviderFailed),
        (lambda it: it.fails(503), ProviderFailed),
        (lambda it: it.fails(401), ProviderMisconfigured),
        (lambda it: it.fails(402), ProviderMisconfigured),
        (lambda it: it.fails(404, code="model_not_found"), ModelNotFound),
        (lambda it: it.fails(400, message="messages: too many"), ProviderRefused),
        (lambda it: it.breaks_connection(times=2), ProviderFailed),
        (lambda it: it.answers("<html>welcome</html>"), ProviderAnsweredWrongly),
        (lambda it: it.answers({"choices": []}), ProviderAnsweredWrongly),
    ],
    ids=["429", "500", "503", "401", "402", "404", "400", "broken", "not JSON's object", "no choice"],
)
def test_a_failed_call_costs_nothing_and_may_be_made_again(
    funded: Caller, provider: Provider, told: Callable[[Provider], None], raised: type[Exception]
) -> None:
    told(provider)
    with pytest.raises(raised):
        complete(funded)
    assert books(funded) == (0, 0, 0)

    answer = complete(funded)

    assert books(funded) == (0, answer.cost_microusd, answer.cost_microusd)


def test_retry_after_is_passed_on(funded: Caller, provider: Provider) -> None:
    provider.fails(429, headers={"retry-after": "7"})
    with pytest.raises(ProviderRateLimited) as limited:
        complete(funded)
    assert (limited.value.retry_after_s, limited.value.retryable) == (7, True)


def test_the_providers_reason_and_well_known_code_reach_the_caller(funded: Caller, provider: Provider) -> None:
    provider.fails(400, message="This is too long.", code="context_length_exceeded", param="messages")
    with pytest.raises(ProviderRefused, match="This is too long") as refused:
        complete(funded)
    assert (refused.value.code, refused.value.param) == ("context_length_exceeded", "messages")


def test_a_broken_connection_is_tried_once_more(funded: Caller, provider: Provider) -> None:
    provider.breaks_connection()
    assert complete(funded).text
    assert len(provider.asked) == 2


def test_a_silent_provider_is_given_up_and_not_asked_again(funded: Caller, provider: Provider) -> None:
    provider.gate = threading.Barrier(2)
    try:
        with pytest.raises(ProviderTimedOut):
            complete(funded, timeout_s=0.2)
    finally:
        provider.gate.abort()
    assert len(provider.asked) == 1
    assert books(funded) == (0, 0, 0)


def test_a_model_that_keeps_failing_is_left_alone_for_a_moment(funded: Caller, provider: Provider) -> None:
    provider.fails(500, times=5)
    for _ in range(5):
        with pytest.raises(ProviderFailed):
            complete(funded)

    with pytest.raises(ProviderSuspended) as suspended:
        complete(funded)

    assert len(provider.asked) == 5
    assert suspended.value.retry_after_s
    assert books(funded) == (0, 0, 0)


def test_refused_requests_do_not_suspend_a_model(funded: Caller, provider: Provider) -> None:
    provider.fails(400, times=6)
    for _ in range(6):
        with pytest.raises(ProviderRefused):
            complete(funded)
    assert complete(funded).text


def test_a_model_without_a_price_is_not_found_and_not_asked(funded: Caller, provider: Provider) -> None:
    with pytest.raises(ModelNotFound, match="no-such-model"):
        complete(funded, request=ChatRequest(messages=HELLO.messages, model="no-such-model"))
    assert provider.asked == []


def test_a_nul_in_an_answer_is_stored_as_a_replacement_character(funded: Caller, provider: Provider) -> None:
    provider.answers(
        {
            "id": "x",
            "created": 1,
            "model": "m",
            "choices": [{"index": 0, "message": {"role": "assistant", "content": "a\x00b"}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
        }
    )
    assert complete(funded).text == "a\ufffdb"
    assert complete(funded).text == "a\ufffdb"


def test_a_rivals_equal_source_id_is_another_call(funded: Caller, rival: Caller, provider: Provider) -> None:
    with_credits(rival)
    first, other = complete(funded), complete(rival)
    assert first.call.id != other.call.id
    assert len(provider.asked) == 2


def test_the_providers_key_is_sent_to_the_provider_and_shown_to_nobody(
    funded: Caller, provider: Provider, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level("DEBUG")
    shown: list[str] = []
    complete(funded, "well")
    for status in (400, 401, 403, 404, 422, 429, 500):
        provider.fails(
            status, message=f"Incorrect API key provided: {provider.key}", code=provider.key, param=provider.key
        )
        with pytest.raises(Exception) as failed:
            complete(funded, f"failed-{status}")
        shown.append(repr(_everything_about(failed.value)))

    assert all(asked.authorization == f"Bearer {provider.key}" for asked in provider.asked)
    told = "".join([*shown, caplog.text, *(str(vars(record)) for record in caplog.records), *capfd.readouterr()])
    assert provider.key not in told


def _everything_about(error: BaseException) -> list[object]:
    """Return the error's and its causes' texts and attributes: what a logger that prints everything would print."""
    found: list[object] = []
    following: BaseException | None = error
    while following is not None:
        found += [str(following), vars(following)]
        following = following.__cause__
    return found


def test_embeddings_are_in_order_and_charged_once(funded: Caller, provider: Provider) -> None:
    def embed(source_id: str, texts: list[str]) -> list[tuple[float, ...]]:
        found = service.embed(
            funded, texts=texts, model=None, source_id=source_id, max_cost_microusd=None, dimensions=384
        )
        return list(found.vectors)

    both = embed("both", ["red apples", "the moon"])
    again = embed("both", ["red apples", "the moon"])
    apart = embed("apart", ["the moon"])

    assert both == again
    assert both[1] == apart[0] != both[0]
    assert len(both[0]) == 384
    # What the org has embedded before costs nothing.
    assert len(provider.asked) == 1


def test_embeddings_beyond_the_budget_are_refused_before_the_call(funded: Caller, provider: Provider) -> None:
    with pytest.raises(BudgetExceeded):
        service.embed(funded, texts=["x" * 100_000], model=None, source_id="e", max_cost_microusd=0)
    assert provider.asked == []
