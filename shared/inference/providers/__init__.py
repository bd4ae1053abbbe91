"""How each kind of provider is asked: one file for each, imported by the first call that needs it."""

from functools import cache
from importlib import import_module

from shared.inference.answers import Provider
from shared.inference.config import ProviderKind

_MODULES = {
    ProviderKind.OPENAI: "openai_provider",
    ProviderKind.ANTHROPIC: "anthropic_provider",
    ProviderKind.BEDROCK: "bedrock_provider",
}


@cache
def of(kind: ProviderKind) -> Provider:
    """Return who asks providers of this kind."""
    provider: Provider = import_module(f"{__name__}.{_MODULES[kind]}").PROVIDER
    return provider
