"""Runs the Alembic revisions as the schema's owner, one migration at a time however many deploys race."""

import json
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from sqlalchemy import create_engine, text
from sqlalchemy.engine import Engine
from sqlalchemy.engine.url import make_url
from sqlalchemy.pool import NullPool

from shared.kernel import secrets
from shared.kernel.errors import ConfigurationError
from shared.kernel.settings import SchemaOwnerSettings

# Any constant will do, as long as nothing else in this database uses it.
_LOCK = 7_243_041


def upgrade(migration: SchemaOwnerSettings, scripts: Path) -> str:
    """Apply what is missing, in one transaction, and return the revision the schema is at."""
    config = Config()
    config.set_main_option("script_location", str(scripts))
    with _engine(migration).begin() as connection:
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        revision = MigrationContext.configure(connection).get_current_revision()
    if revision is None:
        raise ConfigurationError(f"There are no revisions in {scripts}.")
    return revision


def _engine(migration: SchemaOwnerSettings) -> Engine:
    url = make_url(migration.url).set(drivername="postgresql+psycopg")
    if migration.password_secret_arn is not None:
        login = json.loads(secrets.read(migration.password_secret_arn))
        url = url.set(username=login["username"], password=login["password"])
    return create_engine(url, poolclass=NullPool)
