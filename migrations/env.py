"""Runs the revisions on the connection it is handed; nothing is read from files or the environment."""

from alembic import context
from sqlalchemy import text

connection = context.config.attributes["connection"]
# A migration that can't get its lock soon gives up rather than queue every request behind it.
connection.execute(text("SET lock_timeout = '5s'"))
context.configure(connection=connection, target_metadata=None, transaction_per_migration=False)
with context.begin_transaction():
    context.run_migrations()
