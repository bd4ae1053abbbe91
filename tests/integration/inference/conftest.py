"""The gateway's tests ask a provider of their own."""

from tests.model_provider import provider as provider
