"""The model gateway beside LiteLLM's proxy: what each adds to a provider that answers at once."""
