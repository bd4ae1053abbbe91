"""The home on one machine: everything that AWS would run, as ordinary processes on loopback."""
