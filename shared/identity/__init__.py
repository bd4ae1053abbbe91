"""Tenants, their API keys, and who a key's bearer is."""
