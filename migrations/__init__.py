"""The schema, as Alembic revisions in plain SQL: expand first, contract in a later release."""
