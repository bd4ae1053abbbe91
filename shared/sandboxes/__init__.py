"""Sandboxes in which agents and customers execute code."""
