"""The model gateway: chat and embeddings through the platform's provider, metered to the micro-dollar."""
