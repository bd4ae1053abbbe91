"""Access tokens: the keys that sign them, their issue and their check."""
