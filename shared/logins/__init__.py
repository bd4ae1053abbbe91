"""Sign-in elsewhere: Google, GitHub, and an org's own OpenID Connect issuer."""
