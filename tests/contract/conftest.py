"""The gateway over real HTTP, as uvicorn serves it at home and on AWS, with a tenant's key and a provider behind it."""

from collections.abc import Iterator

import pytest
from redis import Redis

from shared.billing import service as billing
from shared.identity import service as identity
from shared.inference import gateway
from shared.inference.edge.app import create
from shared.kernel import db
from shared.kernel.caller import Caller
from tests.http_server import listening
from tests.model_provider import Provider


@pytest.fixture
def api_key(org: Caller) -> str:
    """A key of the tenant, as it is sent."""
    with db.tenant(org) as tx:
        _, secret = identity.create_key(tx, org, name="contract", scopes=None, expires_at=None, metadata={})
    return secret.text


@pytest.fixture
def url(provider: Provider, org: Caller, operator: Caller, redis: Redis) -> Iterator[str]:
    """The base URL to give to a client; the tenant has a dollar."""
    with db.tenant(org) as tx:
        billing.grant(tx, org, amount_microusd=1_000_000, source_id="grant", reason="test")
    # An app of its own: it keeps who calls for five seconds.
    with listening(create(gateway)) as address:
        yield f"{address}/v1"
