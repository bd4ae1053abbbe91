"""Letters leave here: asked for through a queue once committed, sent through SES by its consumer."""
