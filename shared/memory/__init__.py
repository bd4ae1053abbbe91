"""What agents and people want remembered: kept as text and meaning, found again by both."""
