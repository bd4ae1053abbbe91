"""What tests of more than pure code stand on: real PostgreSQL and Redis, migrated databases, tenants, handler calls."""

import asyncio
import logging
from collections.abc import Callable, Iterator

import pytest
from redis import Redis

from shared.identity import service as identity
from shared.identity.model import OPERATOR_ORG_ID
from shared.identity.policy import KEY_SCOPES, OPERATOR_SCOPES
from shared.kernel import aws, db, ids, settings
from shared.kernel.caller import Caller
from shared.orgs import service as orgs
from shared.tokens import service as tokens
from tests import api_gateway
from tests.emulator import Emulator
from tests.model_provider import provider as provider
from tests.services import Services, running


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """Keep together what shares something dear."""
    from tests.scheduling import scheduler  # only where pytest-xdist runs

    return scheduler(config, log)


# Whatever is called without having been set up by the test ends here: nothing listens on this port.
_NOWHERE = "http://127.0.0.1:9"
_ENVIRONMENT = {
    "RUNYARD_PUBLIC_URL": "https://runyard.test",
    "RUNYARD_PLATFORM_URL_FOR_SANDBOXES": "https://runyard.test",
    "RUNYARD_OPERATOR_SECRET_ARN": "arn:aws:secretsmanager:us-east-1:000000000000:secret:operator",
    "RUNYARD_MODEL_BASE_URL": f"{_NOWHERE}/v1",
    "RUNYARD_MODEL_SECRET_ARN": "arn:aws:secretsmanager:us-east-1:000000000000:secret:model",
    "RUNYARD_MODEL": "runyard-offline",
    "RUNYARD_EMBEDDING_MODEL": "runyard-offline-embed",
    "RUNYARD_EVENT_BUS": "runyard",
    "RUNYARD_IDENTITY_KEY_ARN": "arn:aws:kms:us-east-1:000000000000:key/00000000-0000-0000-0000-000000000001",
    "RUNYARD_MAIL_QUEUE": "letters",
    "RUNYARD_MAIL_FROM": "runyard@runyard.test",
    "RUNYARD_USAGE_QUEUE": "usage",
    "RUNYARD_OAUTH_SECRET_ARN": "arn:aws:secretsmanager:us-east-1:000000000000:secret:oauth-clients",
    "RUNYARD_PRIVATE_ISSUERS": "1",
    "RUNYARD_PROVIDER_SECRETS": "runyard/test/inference-providers",
    "RUNYARD_PROVIDER_SECRETS_KEY_ARN": "arn:aws:kms:us-east-1:000000000000:key/00000000-0000-0000-0000-000000000001",
    "RUNYARD_PRIVATE_PROVIDERS": "1",
    "RUNYARD_RUN_MACHINE_ARN": "arn:aws:states:us-east-1:000000000000:stateMachine:AgentRun",
    "RUNYARD_SANDBOX_CLUSTER": "sandboxes",
    "RUNYARD_SANDBOX_TASK_DEFINITION": "sandbox",
    "RUNYARD_SANDBOX_SUBNETS": "subnet-1",
    "RUNYARD_SANDBOX_SECURITY_GROUP": "sg-1",
    "RUNYARD_WEBSOCKET_URL": _NOWHERE,
    "POWERTOOLS_SERVICE_NAME": "test",
    "POWERTOOLS_METRICS_NAMESPACE": "Runyard",
    "POWERTOOLS_TRACE_DISABLED": "1",
    "AWS_ENDPOINT_URL": _NOWHERE,
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_EC2_METADATA_DISABLED": "true",
}


@pytest.fixture(autouse=True)
def _main_loop() -> None:
    """Give each test the process's loop, which an `asyncio.run` before it took away: whoever misses one makes one."""
    asyncio.set_event_loop(api_gateway.MAIN_LOOP)


@pytest.fixture(scope="session")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    """The servers of this test process; with pytest-xdist every worker has its own."""
    with running(tmp_path_factory.mktemp("services")) as servers:
        yield servers


@pytest.fixture
def database(services: Services, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The name of a fresh, migrated database, which `db` uses as the application role for this test."""
    services.postgres.start()
    name = services.clone()
    for variable, value in (_ENVIRONMENT | services.environment(name)).items():
        monkeypatch.setenv(variable, value)
    settings.forget()
    tokens.forget()
    yield name
    db.close()
    settings.forget()
    services.drop(name)


@pytest.fixture
def redis(services: Services, database: str) -> Iterator[Redis]:
    """The empty Redis that the cache uses for this test."""
    services.redis.start()
    with Redis.from_url(services.redis_url) as client:
        client.flushall()
        yield client


@pytest.fixture(scope="session")
def started_emulator(services: Services) -> Emulator:
    """The emulator of this test process, started for the first test that needs it."""
    services.emulator.start()
    return Emulator(services.home.emulator_url)


@pytest.fixture
def emulator(started_emulator: Emulator, database: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    """AWS for this test: KMS with the identity key, the queues of letters and usage (empty), SES with a sender."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", started_emulator.url)
    monkeypatch.setenv("RUNYARD_IDENTITY_KEY_ARN", started_emulator.identity_key_arn)
    monkeypatch.setenv("RUNYARD_PROVIDER_SECRETS_KEY_ARN", started_emulator.identity_key_arn)
    settings.forget()
    aws.client.cache_clear()
    started_emulator.prepare(
        queues=(_ENVIRONMENT["RUNYARD_MAIL_QUEUE"], _ENVIRONMENT["RUNYARD_USAGE_QUEUE"]),
        sender=_ENVIRONMENT["RUNYARD_MAIL_FROM"],
    )
    yield started_emulator
    aws.client.cache_clear()


@pytest.fixture
def org(database: str) -> Caller:
    """A tenant's key with every scope that a tenant can have. The tenant has no credits yet."""
    return _tenant("Acme")


@pytest.fixture
def rival(database: str) -> Caller:
    """Another tenant's key with the same scopes: what belongs to `org` must not exist for it."""
    return _tenant("Rival")


@pytest.fixture
def operator(database: str) -> Caller:
    """The platform's own key."""
    identity.register_operator(identity.operator_key(""))
    return Caller(
        org_id=OPERATOR_ORG_ID,
        actor_id=ids.show("key", ids.new()),
        role="operator",
        scopes=OPERATOR_SCOPES,
        plan="operator",
        request_id="test",
    )


@pytest.fixture
def call(database: str, redis: Redis) -> Callable[..., api_gateway.Answer]:
    """`call(handler, method, path, caller, json=…, headers=…)`: a handler's answer to an API Gateway event."""
    return api_gateway.call


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Callable[[], str]:
    """`logged()`: all that was logged so far at any level by anybody, extra fields and tracebacks included."""
    caplog.set_level(logging.DEBUG)
    return lambda: "\n".join(f"{vars(record)} {caplog.handler.format(record)}" for record in caplog.records)


def _tenant(name: str) -> Caller:
    org_id = ids.new()
    system = Caller.system(org_id, request_id="test")
    with db.tenant(system) as tx:
        orgs.create_org(tx, system, org_id=org_id, name=name)
        key, _ = identity.create_first_key(tx, system, org_id=org_id)
    return Caller(
        org_id=org_id,
        actor_id=ids.show("key", key.id),
        role="api",
        scopes=KEY_SCOPES,
        plan="free",
        request_id="test",
    )
