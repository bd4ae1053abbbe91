"""Durable runs of agents."""
