"""Memory's tests ask a provider of their own for embeddings."""

from tests.model_provider import provider as provider
