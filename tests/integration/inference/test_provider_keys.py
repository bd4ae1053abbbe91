"""Providers' keys: read where they are kept, replaced when they are rotated, and never shown."""

import asyncio
import logging
import pickle
from collections.abc import Coroutine, Iterator
from typing import Any

import pytest
import uvloop

from shared.billing.service import TokenPrice
from shared.inference.config import ProviderAccount, ProviderKind, Target
from shared.inference.errors import ProviderMisconfigured
from shared.inference.providers import keys, of
from shared.kernel import aws, secrets
from shared.kernel.errors import Unavailable
from tests.http_server import listening
from tests.model_provider import secrets_manager
from tests.scripted_provider import Scripted, answer, chunked, events, scripted_provider

ARN = "arn:aws:secretsmanager:us-east-1:000000000000:secret:provider-1"
OLD, NEW = "sk-canary-old-5f0c2e", "sk-canary-new-5f0c2e"
CHAT = {
    "id": "c",
    "created": 1,
    "model": "m",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "hello"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 1, "completion_tokens": 1},
}
BODY = {"model": "m", "messages": [{"role": "user", "content": "Hello"}]}
REFUSED = answer({"error": {"message": f"Incorrect API key provided: {OLD}"}}, status=401)


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """What Secrets Manager holds; reached by boto3 over real HTTP."""
    values = {ARN: OLD}
    for name, value in {
        "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "b",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    with listening(secrets_manager(values)) as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL_SECRETS_MANAGER", url)
        aws.client.cache_clear()
        _forget()
        yield values
        aws.client.cache_clear()
        _forget()


@pytest.fixture
def scripted() -> Iterator[Scripted]:
    with scripted_provider() as told:
        yield told


def _forget() -> None:
    secrets.forget(ARN)
    keys._read_anew.clear()


def _target(scripted: Scripted) -> Target:
    account = ProviderAccount(name="p", kind=ProviderKind.OPENAI, base_url=scripted.url, secret_arn=ARN)
    return Target(account=account, model="m", shown_as="m", price=TokenPrice(1, 1, 1, source="test"))


def _run[T](work: Coroutine[Any, Any, T]) -> T:
    return uvloop.run(work)


async def _chat(scripted: Scripted) -> Any:
    key = await keys.read(ARN)
    return await of(ProviderKind.OPENAI).chat(_target(scripted), key, BODY, timeout_s=5)


def test_a_key_is_read_once_and_shows_nothing_of_itself(kept: dict[str, str]) -> None:
    async def twice() -> list[keys.Key]:
        return [await keys.read(ARN), await keys.read(ARN)]

    first, second = _run(twice())
    assert first == second == OLD
    kept[ARN] = NEW
    assert _run(keys.read(ARN)) == OLD
    assert OLD not in f"{[first]!r} {first!r}"
    assert pickle.loads(pickle.dumps(first)) == OLD


def test_without_an_arn_there_is_no_key(kept: dict[str, str]) -> None:
    assert _run(keys.read("")) == ""
    assert _run(keys.read_anew("", refused="")) is None


def test_a_rotated_key_is_found_at_its_first_refusal(kept: dict[str, str], scripted: Scripted) -> None:
    scripted.will(REFUSED, answer(CHAT), answer(CHAT))
    _run(keys.read(ARN))
    kept[ARN] = NEW
    assert _run(_chat(scripted)).body == CHAT
    assert _run(_chat(scripted)).body == CHAT
    assert [heard.headers["authorization"] for heard in scripted.heard] == [f"Bearer {key}" for key in (OLD, NEW, NEW)]


def test_a_stream_finds_a_rotated_key_too(kept: dict[str, str], scripted: Scripted) -> None:
    first = {"id": "c", "choices": [{"index": 0, "delta": {"content": "hello"}, "finish_reason": "stop"}]}
    scripted.will(REFUSED, chunked(*events(first, b"[DONE]")))

    async def read() -> str:
        key = await keys.read(ARN)
        kept[ARN] = NEW
        stream = of(ProviderKind.OPENAI).stream(_target(scripted), key, BODY, first_token_s=5, timeout_s=5)
        return "".join([chunk.text async for chunk in stream])

    assert _run(read()) == "hello"


def test_a_key_that_is_simply_wrong_is_not_looked_up_for_every_call(
    kept: dict[str, str], scripted: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    found = secrets.read
    monkeypatch.setattr(secrets, "read", lambda arn: read.append(arn) or found(arn))  # type: ignore[func-returns-value]
    scripted.will(*[REFUSED] * 20)

    async def many() -> None:
        for _ in range(5):
            with pytest.raises(ProviderMisconfigured):
                await _chat(scripted)
        calls = await asyncio.gather(*(_chat(scripted) for _ in range(5)), return_exceptions=True)
        assert {type(call) for call in calls} == {ProviderMisconfigured}

    _run(many())
    assert len(scripted.heard) == 10
    # For the first call, and after the first refusal.
    assert len(read) == 2


def test_no_key_is_written_down_on_its_way(
    kept: dict[str, str], scripted: Scripted, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("", "botocore", "boto3", "urllib3", "openai", "aiohttp", "asyncio"):
        caplog.set_level(logging.DEBUG, name)
    scripted.will(REFUSED, answer(CHAT))
    _run(keys.read(ARN))
    kept[ARN] = NEW
    _run(_chat(scripted))
    written = caplog.text + "".join(f"{record.__dict__}" for record in caplog.records)
    assert OLD not in written
    assert NEW not in written


def test_a_key_that_is_gone_is_told_as_what_it_is(kept: dict[str, str]) -> None:
    kept.clear()

    with pytest.raises(ProviderMisconfigured) as raised:
        asyncio.run(keys.read(ARN))

    assert raised.value.__cause__ is None
    assert "rotate" in raised.value.message


def test_a_key_that_cannot_be_read_now_is_no_fault_of_the_provider(
    kept: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Nothing listens there.
    monkeypatch.setenv("AWS_ENDPOINT_URL_SECRETS_MANAGER", "http://127.0.0.1:9")
    aws.client.cache_clear()

    with pytest.raises(Unavailable) as raised:
        asyncio.run(keys.read(ARN))

    assert raised.value.__cause__ is None
