"""People: accounts, passwords, second factors, sessions, and the letters sent to them."""
