"""Third-party code of the functions: one folder per Lambda layer, pinned with hashes."""
