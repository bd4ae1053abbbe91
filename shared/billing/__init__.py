"""Credits and prices: a ledger that never goes below zero, and a price book that is data."""
