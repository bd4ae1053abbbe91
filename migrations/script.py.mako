"""${message}"""

from alembic import op

from migrations.tenancy import tenant_table

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}


def upgrade() -> None:
    op.execute("")
