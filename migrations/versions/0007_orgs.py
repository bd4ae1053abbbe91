"""What an org is made of: members, invitations, teams, shared things, service accounts, its own sign-in."""

from alembic import op

from migrations.tenancy import CURRENT_ORG, CURRENT_USER, look_up, looked_up, tenant_table

revision = "0007"
down_revision = "0006"

_ROLES = "('owner', 'admin', 'member', 'viewer')"


def upgrade() -> None:
    op.execute("ALTER TABLE orgs ADD COLUMN updated_at timestamptz NOT NULL DEFAULT now()")
    op.execute(f"""
        CREATE TABLE memberships (
            org_id uuid NOT NULL REFERENCES orgs (id),
            user_id uuid NOT NULL REFERENCES users (id),
            role text NOT NULL CHECK (role IN {_ROLES}),
            created_at timestamptz NOT NULL DEFAULT now(),
            updated_at timestamptz NOT NULL DEFAULT now(),
            PRIMARY KEY (org_id, user_id)
        )
    """)
    op.execute("CREATE INDEX memberships_user ON memberships (user_id)")
    tenant_table("memberships")
    looked_up("memberships")
    look_up(
        "orgs_of_current_user",
        "",
        "TABLE (id uuid, name text, slug text, plan text, metadata jsonb, settings jsonb,"
        " created_at timestamptz, updated_at timestamptz, role text)",
        f"""SELECT org.id, org.name, org.slug, org.plan, org.metadata, org.settings,
                   org.created_at, org.updated_at, membership.role
              FROM memberships membership JOIN orgs org ON org.id = membership.org_id
             WHERE membership.user_id = {CURRENT_USER}
             ORDER BY org.id""",
    )
    look_up(
        "members_of_current_org",
        "",
        "TABLE (user_id uuid, name text, email text, role text, has_second_factor boolean,"
        " created_at timestamptz, updated_at timestamptz)",
        # Somebody whom only the org's own sign-in knows has no address of their own, but the one its issuer claims.
        f"""SELECT person.id, person.name,
                   coalesce(
                       (SELECT nullif(identity.email, '') FROM identities identity
                         WHERE identity.user_id = person.id AND identity.org_id = membership.org_id
                           AND person.email LIKE '%@invalid'
                         ORDER BY identity.last_used_at DESC LIMIT 1),
                       person.email
                   ),
                   membership.role, person.totp_confirmed_at IS NOT NULL, membership.created_at, membership.updated_at
              FROM memberships membership JOIN users person ON person.id = membership.user_id
             WHERE membership.org_id = {CURRENT_ORG}""",
    )
    # What the authorizer asks about an access token: everything that must not be fifteen minutes old.
    look_up(
        "bearer_of_session",
        "of_session uuid, of_user uuid, of_org uuid",
        "TABLE (role text, plan text, resource_quota jsonb, org_locked boolean, ended_at timestamptz,"
        " expires_at timestamptz)",
        """SELECT membership.role, org.plan, org.resource_quota, session.org_locked, session.ended_at,
                  session.expires_at
             FROM sessions session
             JOIN memberships membership ON membership.user_id = session.user_id AND membership.org_id = of_org
             JOIN orgs org ON org.id = membership.org_id
            WHERE session.id = of_session AND session.user_id = of_user
              AND (session.org_id = of_org OR NOT session.org_locked)""",
    )

    op.execute(f"""
        CREATE TABLE invitations (
            id uuid PRIMARY KEY,
            org_id uuid NOT NULL REFERENCES orgs (id),
            email text NOT NULL CHECK (email = lower(email)),
            role text NOT NULL CHECK (role IN {_ROLES}),
            invited_by text NOT NULL,
            sha256 bytea CONSTRAINT invitations_secret_unique UNIQUE,
            created_at timestamptz NOT NULL DEFAULT now(),
            sent_at timestamptz,
            accepted_at timestamptz,
            revoked_at timestamptz,
            expires_at timestamptz NOT NULL
        )
    """)
    op.execute("""
        CREATE UNIQUE INDEX invitations_one_open ON invitations (org_id, email)
         WHERE accepted_at IS NULL AND revoked_at IS NULL
    """)
    op.execute("CREATE INDEX invitations_org ON invitations (org_id, id DESC)")
    tenant_table("invitations")
    looked_up("invitations")
    look_up(
        "invitation_by_secret",
        "wanted bytea",
        "TABLE (id uuid, org_id uuid)",
        "SELECT invitation.id, invitation.org_id FROM invitations invitation WHERE invitation.sha256 = wanted",
    )
    look_up(
        "unsent_invitations",
        "older_than interval",
        "TABLE (id uuid, org_id uuid)",
        """SELECT invitation.id, invitation.org_id FROM invitations invitation
            WHERE invitation.sent_at IS NULL AND invitation.revoked_at IS NULL
              AND invitation.created_at < now() - older_than AND invitation.expires_at > now()
            ORDER BY invitation.created_at LIMIT 100""",
    )

    op.execute("""
        CREATE TABLE teams (
            id uuid PRIMARY KEY,
            org_id uuid NOT NULL REFERENCES orgs (id),
            name text NOT NULL CHECK (length(name) BETWEEN 1 AND 100),
            metadata jsonb NOT NULL DEFAULT '{}',
            created_at timestamptz NOT NULL DEFAULT now(),
            updated_at timestamptz NOT NULL DEFAULT now(),
            UNIQUE (org_id, id),
            CONSTRAINT teams_name_unique UNIQUE (org_id, name)
        )
    """)
    tenant_table("teams")
    op.execute("""
        CREATE TABLE team_members (
            org_id uuid NOT NULL,
            team_id uuid NOT NULL,
            user_id uuid NOT NULL,
            created_at timestamptz NOT NULL DEFAULT now(),
            PRIMARY KEY (team_id, user_id),
            FOREIGN KEY (org_id, team_id) REFERENCES teams (org_id, id) ON DELETE CASCADE,
            FOREIGN KEY (org_id, user_id) REFERENCES memberships (org_id, user_id) ON DELETE CASCADE
        )
    """)
    op.execute("CREATE INDEX team_members_user ON team_members (org_id, user_id)")
    tenant_table("team_members")

    op.execute("""
        CREATE TABLE resource_grants (
            id uuid PRIMARY KEY,
            org_id uuid NOT NULL REFERENCES orgs (id),
            resource_type text NOT NULL CHECK (resource_type IN ('agent')),
            resource_id uuid NOT NULL,
            team_id uuid,
            user_id uuid,
            access text NOT NULL CHECK (access IN ('read', 'write')),
            created_by text NOT NULL,
            created_at timestamptz NOT NULL DEFAULT now(),
            CHECK ((team_id IS NULL) <> (user_id IS NULL)),
            CONSTRAINT resource_grants_once UNIQUE NULLS NOT DISTINCT
                (org_id, resource_type, resource_id, team_id, user_id),
            FOREIGN KEY (org_id, team_id) REFERENCES teams (org_id, id) ON DELETE CASCADE,
            FOREIGN KEY (org_id, user_id) REFERENCES memberships (org_id, user_id) ON DELETE CASCADE
        )
    """)
    op.execute("CREATE INDEX resource_grants_resource ON resource_grants (org_id, resource_type, resource_id)")
    tenant_table("resource_grants")

    op.execute("""
        CREATE TABLE service_accounts (
            id uuid PRIMARY KEY,
            org_id uuid NOT NULL REFERENCES orgs (id),
            name text NOT NULL CHECK (length(name) BETWEEN 1 AND 100),
            scopes text[] NOT NULL,
            metadata jsonb NOT NULL DEFAULT '{}',
            created_by text NOT NULL,
            created_at timestamptz NOT NULL DEFAULT now(),
            disabled_at timestamptz,
            UNIQUE (org_id, id)
        )
    """)
    op.execute("CREATE INDEX service_accounts_org ON service_accounts (org_id, id DESC)")
    tenant_table("service_accounts")
    looked_up("service_accounts")
    op.execute("""
        ALTER TABLE api_keys
            ADD COLUMN mode text NOT NULL DEFAULT 'live' CHECK (mode IN ('live', 'test')),
            ADD COLUMN service_account_id uuid,
            ADD COLUMN rate_limit_per_minute int CHECK (rate_limit_per_minute > 0),
            ADD COLUMN replaced_by uuid,
            ADD FOREIGN KEY (org_id, service_account_id) REFERENCES service_accounts (org_id, id)
    """)
    op.execute("DROP FUNCTION api_key_by_secret(bytea)")
    # Dead keys are found too: their bearer had the secret and may be told what became of it.
    look_up(
        "api_key_by_secret",
        "wanted bytea",
        "TABLE (id uuid, org_id uuid, role text, scopes text[], plan text, last_used_at timestamptz,"
        " expires_at timestamptz, revoked_at timestamptz, disabled_at timestamptz, service_account_id uuid,"
        " rate_limit_per_minute int, resource_quota jsonb)",
        """SELECT key.id, key.org_id, key.role,
                  CASE WHEN account.id IS NULL THEN key.scopes
                       ELSE ARRAY(SELECT unnest(key.scopes) INTERSECT SELECT unnest(account.scopes)) END,
                  org.plan, key.last_used_at, key.expires_at, key.revoked_at, account.disabled_at,
                  key.service_account_id, key.rate_limit_per_minute, org.resource_quota
             FROM api_keys key
             JOIN orgs org ON org.id = key.org_id
             LEFT JOIN service_accounts account ON account.id = key.service_account_id
            WHERE key.secret_sha256 = wanted""",
    )

    op.execute(f"""
        CREATE TABLE sso_connections (
            org_id uuid PRIMARY KEY REFERENCES orgs (id),
            issuer text NOT NULL,
            client_id text NOT NULL,
            client_secret_wrapped bytea NOT NULL,
            role_claim text,
            role_map jsonb NOT NULL DEFAULT '{{}}',
            default_role text CHECK (default_role IN {_ROLES}),
            created_at timestamptz NOT NULL DEFAULT now(),
            updated_at timestamptz NOT NULL DEFAULT now()
        )
    """)
    tenant_table("sso_connections")
    looked_up("sso_connections")
    look_up(
        "org_with_sso_by_slug",
        "wanted text",
        "uuid",
        "SELECT org.id FROM orgs org JOIN sso_connections sso ON sso.org_id = org.id WHERE org.slug = wanted",
    )

    # Which person made it, where a person did: members see their own things and those shared with them.
    for table in ("agents", "runs", "sandboxes", "memories"):
        op.execute(f"ALTER TABLE {table} ADD COLUMN created_by_user uuid")
        op.execute(f"CREATE INDEX {table}_of_user ON {table} (org_id, created_by_user, id DESC)")
    op.execute("CREATE INDEX resource_grants_user ON resource_grants (org_id, user_id) WHERE user_id IS NOT NULL")
    op.execute("CREATE INDEX resource_grants_team ON resource_grants (org_id, team_id) WHERE team_id IS NOT NULL")
    op.execute("CREATE INDEX runs_of_agent ON runs (org_id, agent_id, id DESC)")
    # The agents that a member may read or write: their own and those shared with them. Write access includes read.
    # Under row-level security of whoever asks.
    op.execute("""
        CREATE FUNCTION agents_within_reach(of_user uuid, wanted text) RETURNS SETOF uuid
        LANGUAGE sql STABLE ROWS 100 SET search_path = public, pg_temp
        AS $$
            SELECT agent.id FROM agents agent WHERE agent.created_by_user = of_user
            UNION
            SELECT shared.resource_id FROM resource_grants shared
             WHERE shared.resource_type = 'agent'
               AND (wanted = 'read' OR shared.access = 'write')
               AND (shared.user_id = of_user
                    OR shared.team_id IN (SELECT team.team_id FROM team_members team WHERE team.user_id = of_user))
        $$
    """)
    op.execute("REVOKE ALL ON FUNCTION agents_within_reach(uuid, text) FROM PUBLIC")
    op.execute("GRANT EXECUTE ON FUNCTION agents_within_reach(uuid, text) TO runyard_app")

    # A member's search must leave others' memories out before it takes the best.
    op.execute("DROP FUNCTION memories_by_words(tsquery, text, int)")
    look_up(
        "memories_by_words",
        "query tsquery, of_subject text, of_user uuid, take int",
        "TABLE (id uuid, rank real)",
        f"""SELECT memory.id, ts_rank(memory.words, query)
              FROM memories memory
             WHERE memory.org_id = {CURRENT_ORG}
               AND memory.words @@ query
               AND (of_subject IS NULL OR memory.subject = of_subject)
               AND (of_user IS NULL OR memory.created_by_user = of_user)
             ORDER BY 2 DESC, 1 DESC
             LIMIT take""",
    )
