"""What each tenant used: an append-only ledger in which what is delivered twice is counted once."""
