"""The outbox and its relay: what the platform tells the outside, exactly as committed."""
