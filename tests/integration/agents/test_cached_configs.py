"""A version's config comes from the cache where it can, and only to its tenant."""

import json

import pytest
from redis import Redis

from shared.agents import service
from shared.agents.schemas import Config
from shared.kernel import db
from shared.kernel.caller import Caller
from shared.kernel.errors import NotFound
from tests.services import Services


def test_a_config_is_read_from_the_cache_the_second_time(org: Caller, redis: Redis) -> None:
    with db.tenant(org) as tx:
        agent = service.create_agent(tx, org, name="A", config=Config().to_model(), metadata={})
        assert service.get_config(tx, org, agent.id, 1) == agent.config
        (key,) = redis.scan_iter()
        assert str(org.org_id) in key.decode()
        stored = json.loads(str(redis.get(key), "utf-8"))  # type: ignore[arg-type]
        redis.set(key, json.dumps(stored | {"max_steps": 7}))
        assert service.get_config(tx, org, agent.id, 1).max_steps == 7


def test_a_cached_config_does_not_exist_for_a_rival(org: Caller, rival: Caller, redis: Redis) -> None:
    with db.tenant(org) as tx:
        agent = service.create_agent(tx, org, name="A", config=Config().to_model(), metadata={})
        service.get_config(tx, org, agent.id, 1)
    with db.tenant(rival) as tx, pytest.raises(NotFound):
        service.get_config(tx, rival, agent.id, 1)


def test_without_a_cache_a_config_comes_from_the_database(org: Caller, services: Services) -> None:
    services.redis.stop()
    try:
        with db.tenant(org) as tx:
            agent = service.create_agent(tx, org, name="A", config=Config().to_model(), metadata={})
            assert service.get_config(tx, org, agent.id, 1) == agent.config
    finally:
        services.redis.start()
