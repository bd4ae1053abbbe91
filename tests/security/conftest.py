"""Security tests stand on the same real servers as the integration tests."""

from tests.integration.conftest import call, database, operator, org, redis, rival, services
from tests.model_provider import provider

__all__ = ["call", "database", "operator", "org", "provider", "redis", "rival", "services"]
