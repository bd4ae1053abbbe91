"""Measurements of the platform beside their floors; see bench/README.md."""
