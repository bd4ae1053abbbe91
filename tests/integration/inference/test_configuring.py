"""What an org has set up is looked up once in five seconds, and known for a minute when Postgres is gone."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import pytest

from shared.billing import service as billing
from shared.billing.service import TokenPrice
from shared.inference import accounts, config_store, configuring, org_settings, routes, routes_store
from shared.inference.config import OrgConfig, ProviderKind, Settings
from shared.inference.policy import Candidate, Conditions, Ensemble, Fault, Route, Strategy
from shared.kernel import db, ids
from shared.kernel.caller import Caller
from shared.kernel.db import Tx
from shared.kernel.errors import Unavailable
from tests.services import Services

ROUTE = Route(
    name="draft",
    candidates=(
        Candidate(
            model="gpt-5-mini",
            weight=3,
            when=Conditions(
                tasks=frozenset({"draft", "chat"}), max_input_tokens=1000, tools=False, max_price_microusd=9
            ),
            timeout_s=2.5,
        ),
        Candidate(model="gpt-5", first_token_s=1.0),
    ),
    strategy=Strategy.WEIGHTED,
    fall_back_on=frozenset({Fault.TIMEOUT, Fault.RATE_LIMITED}),
    max_attempts=2,
    ensemble=Ensemble(n=2, judge="gpt-5"),
)


class Time:
    """A clock for durations that the test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    moved = Time()
    monkeypatch.setattr(configuring, "time", moved)
    return moved


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[Caller]:
    """Whose set-up was looked up in Postgres."""
    done: list[Caller] = []
    load = config_store.load

    def counted(tx: db.Tx, caller: Caller) -> OrgConfig:
        done.append(caller)
        return load(tx, caller)

    monkeypatch.setattr(config_store, "load", counted)
    return done


@pytest.fixture(autouse=True)
def _nothing_known(database: str) -> Iterator[None]:
    configuring.forget()
    yield
    configuring.forget()


def of(caller: Caller) -> OrgConfig:
    return asyncio.run(configuring.of(caller))


def set_ttl(caller: Caller, seconds: int, *, open_tx: Callable[[Caller], object] = db.tenant) -> None:
    with open_tx(caller) as tx:  # type: ignore[attr-defined]
        org_settings.set_settings(tx, caller, Settings(cache_ttl_s=seconds))


set_ttl_here = partial(set_ttl, open_tx=configuring.changing)


def provider(caller: Caller, name: str, *, enabled: bool = True, model: str = "m") -> None:
    with db.tenant(caller) as tx:
        accounts.begin_account(
            tx,
            caller,
            name=name,
            kind=ProviderKind.OPENAI,
            base_url=f"https://{name}.test/v1",
            region="",
            models=(model,),
            parameters=(),
            enabled=enabled,
            api_key=None,
        )


def test_an_org_that_set_nothing_up_has_the_defaults(org: Caller) -> None:
    assert of(org) == OrgConfig()


def test_all_that_an_org_set_up_is_read_and_nothing_of_anothers(org: Caller, rival: Caller, operator: Caller) -> None:
    with db.tenant(org) as tx:
        routes.create_route(tx, org, ROUTE)
        settings = Settings(
            cache_ttl_s=7, record_content=True, content_retention_days=3, redact=frozenset({"email", "card"})
        )
        org_settings.set_settings(tx, org, settings)
        price = TokenPrice(
            input_microusd=4, cached_microusd=1, written_microusd=5, output_microusd=9, source="agreed with the org"
        )
        billing.set_org_price(tx, org, org.org_id, model="gpt-5", effective_from=None, price=price)
        billing.set_org_price(tx, org, org.org_id, model="gpt-5-mini", effective_from=None, price=None)
    provider(org, "mine")
    provider(org, "off", enabled=False)
    provider(rival, "theirs")
    provider(operator, "everybodys")
    provider(operator, "resting", enabled=False)

    found = of(org)
    assert found.routes == {"draft": ROUTE}
    assert found.settings == settings
    assert {each.model: each.price for each in found.prices} == {"gpt-5": price, "gpt-5-mini": None}
    assert {name: account.own for name, account in found.providers.items()} == {"mine": True, "everybodys": False}
    assert found.providers["mine"].base_url == "https://mine.test/v1"
    assert found.providers["mine"].models == {"m"}
    assert [account.name for account in found.platform] == ["everybodys"]

    assert of(rival).routes == {}
    assert of(rival).settings == Settings()
    assert of(rival).prices == ()
    assert set(of(rival).providers) == {"theirs", "everybodys"}


def test_the_operators_own_calls_are_priced_like_everybodys(operator: Caller) -> None:
    provider(operator, "everybodys")
    found = of(operator)
    assert [account.own for account in found.providers.values()] == [False]
    assert [account.own for account in found.platform] == [False]


def test_an_orgs_own_provider_comes_before_the_platforms_of_the_same_name(org: Caller, operator: Caller) -> None:
    provider(operator, "same", model="theirs")
    provider(org, "same", model="mine")
    found = of(org)
    assert found.providers["same"].own
    assert found.providers["same"].models == {"mine"}
    assert [account.models for account in found.platform] == [{"theirs"}]


def test_it_is_looked_up_again_after_five_seconds(org: Caller, time: Time, loads: list[Caller]) -> None:
    of(org)
    set_ttl(org, 1)
    time.now += 4.9
    assert of(org).settings.cache_ttl_s == 300
    time.now += 0.2
    assert of(org).settings.cache_ttl_s == 1
    assert len(loads) == 2


def test_a_change_is_seen_at_once_where_it_was_made(
    org: Caller, rival: Caller, time: Time, loads: list[Caller]
) -> None:
    of(org), of(rival)
    set_ttl_here(org, 1)
    assert of(org).settings.cache_ttl_s == 1
    of(rival)
    assert len(loads) == 3, "what others set up is as it was"


def test_the_platforms_providers_change_for_everybody(org: Caller, operator: Caller, time: Time) -> None:
    assert of(org).platform == ()
    provider(operator, "new")
    set_ttl_here(operator, 5)
    assert [account.name for account in of(org).platform] == ["new"]


def test_a_change_during_a_look_up_is_not_lost(org: Caller, time: Time, monkeypatch: pytest.MonkeyPatch) -> None:
    read, go_on, load = threading.Event(), threading.Event(), config_store.load

    def slow(tx: db.Tx, caller: Caller) -> OrgConfig:
        found = load(tx, caller)
        read.set()
        assert go_on.wait(30)
        return found

    monkeypatch.setattr(config_store, "load", slow)

    async def change_meanwhile() -> OrgConfig:
        first = asyncio.create_task(configuring.of(org))
        assert await asyncio.to_thread(read.wait, 10)
        await asyncio.to_thread(set_ttl_here, org, 1)
        go_on.set()
        await first
        return await configuring.of(org)

    assert asyncio.run(change_meanwhile()).settings.cache_ttl_s == 1


def test_many_at_once_cause_one_look_up(org: Caller, rival: Caller, loads: list[Caller]) -> None:
    async def many() -> None:
        await asyncio.gather(*(configuring.of(caller) for caller in [org, rival] * 50))

    threads = [threading.Thread(target=asyncio.run, args=(many(),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(str(caller.org_id) for caller in loads) == sorted(str(each.org_id) for each in (org, rival))


def test_one_who_goes_away_takes_nothing_from_the_others(org: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    go_on, load = threading.Event(), config_store.load

    def slow(tx: db.Tx, caller: Caller) -> OrgConfig:
        assert go_on.wait(30)
        return load(tx, caller)

    monkeypatch.setattr(config_store, "load", slow)

    async def two() -> OrgConfig:
        leaving = asyncio.create_task(configuring.of(org))
        staying = asyncio.create_task(configuring.of(org))
        await asyncio.sleep(0)
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
        go_on.set()
        return await staying

    assert asyncio.run(two()) == OrgConfig()


def test_without_postgres_it_is_as_it_was_for_a_minute(
    org: Caller, rival: Caller, time: Time, services: Services, loads: list[Caller]
) -> None:
    set_ttl(org, 1)
    of(org)
    db.close()
    services.postgres.kill()
    try:
        time.now += 30
        assert of(org).settings.cache_ttl_s == 1
        with pytest.raises(Unavailable):
            of(rival)
        time.now += 31
        with pytest.raises(Unavailable):
            of(org)
    finally:
        services.postgres.start()
    set_ttl(org, 2)
    assert of(org).settings.cache_ttl_s == 2


def test_without_postgres_it_is_not_looked_for_at_every_call(
    org: Caller, time: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    of(org)
    tried: list[Caller] = []

    def gone(tx: db.Tx, caller: Caller) -> OrgConfig:
        tried.append(caller)
        raise Unavailable("gone")

    monkeypatch.setattr(config_store, "load", gone)
    time.now += 6
    for _ in range(10):
        of(org)
    assert len(tried) == 1
    time.now += 1.1
    of(org)
    assert len(tried) == 2


def test_what_is_wrong_is_told_and_not_kept(org: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(tx: db.Tx, caller: Caller) -> OrgConfig:
        raise ValueError("a row that nobody can read")

    with monkeypatch.context() as patched:
        patched.setattr(config_store, "load", wrong)
        with pytest.raises(ValueError, match="nobody can read"):
            of(org)
    assert of(org) == OrgConfig()


def test_the_longest_known_is_dropped_when_there_are_too_many(org: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(configuring, "_MOST_KEPT", 3)
    for _ in range(10):
        of(replace(org, org_id=ids.new()))
    assert len(configuring._kept) == 3


def test_what_was_set_up_elsewhere_a_moment_ago_is_found_by_its_name(org: Caller) -> None:
    async def look() -> tuple[bool, bool]:
        await configuring.of(org)
        # As another worker would: this one isn't told.
        with db.tenant(org) as tx:
            routes_store.insert(
                tx, route_id=ids.new(), route=Route(name="new", candidates=[Candidate(model="m")]), created_by="key"
            )
        known = "new" in (await configuring.of(org)).routes
        await asyncio.sleep(0.3)
        return known, "new" in (await configuring.anew(org)).routes

    assert asyncio.run(look()) == (False, True)


def test_unknown_names_dont_have_the_database_asked_each_time(org: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    loads: list[Caller] = []
    load = config_store.load

    def counted(tx: Tx, caller: Caller) -> OrgConfig:
        loads.append(caller)
        return load(tx, caller)

    monkeypatch.setattr(config_store, "load", counted)

    async def many() -> None:
        for _ in range(50):
            await configuring.anew(org)

    asyncio.run(many())

    assert len(loads) <= 3
