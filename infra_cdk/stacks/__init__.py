"""The stacks, named `runyard-<stage>-<file>`; `app.py` says how they hang together."""
