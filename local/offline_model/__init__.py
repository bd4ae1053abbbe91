"""The offline model: a scripted, deterministic, OpenAI-compatible server that says it is no model."""
