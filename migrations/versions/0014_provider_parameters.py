"""Which parameters beyond OpenAI's a provider is given: those of its own dialect that the org's admins allow."""

from alembic import op

from migrations.tenancy import look_up

revision = "0014"
down_revision = "0013"

# Its providers are the platform's own: those that every tenant's calls may go to.
_OPERATOR = "00000000-0000-7000-8000-000000000001"


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("ALTER TABLE inference_providers ADD parameters text[] NOT NULL DEFAULT '{}'")
    # What a function returns can't be changed in place.
    op.execute("DROP FUNCTION platform_providers()")
    look_up(
        "platform_providers",
        "",
        "TABLE (id uuid, name text, kind text, base_url text, region text, models text[], parameters text[], "
        "secret_arn text)",
        f"""SELECT provider.id, provider.name, provider.kind, provider.base_url, provider.region, provider.models,
                   provider.parameters, provider.secret_arn
              FROM inference_providers provider
             WHERE provider.org_id = '{_OPERATOR}' AND provider.enabled""",
    )
