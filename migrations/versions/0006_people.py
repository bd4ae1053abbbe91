"""People: who they are, how they prove it, their sessions; the keys that sign tokens; who fails to sign in."""

from alembic import op

from migrations.tenancy import look_up, looked_up, person_table

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    # A person exists once their address is confirmed; addresses are stored folded to lower case.
    op.execute("""
        CREATE TABLE users (
            id uuid PRIMARY KEY,
            email text NOT NULL CONSTRAINT users_email_unique UNIQUE CHECK (email = lower(email)),
            name text NOT NULL CHECK (length(name) BETWEEN 1 AND 100),
            password_hash text,
            totp_wrapped bytea,
            totp_confirmed_at timestamptz,
            totp_last_step bigint,
            metadata jsonb NOT NULL DEFAULT '{}',
            created_at timestamptz NOT NULL DEFAULT now(),
            updated_at timestamptz NOT NULL DEFAULT now()
        )
    """)
    person_table("users", key="id")
    looked_up("users")
    look_up(
        "user_by_email",
        "wanted text",
        "uuid",
        "SELECT person.id FROM users person WHERE person.email = wanted",
    )

    op.execute("""
        CREATE TABLE recovery_codes (
            user_id uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
            sha256 bytea NOT NULL,
            used_at timestamptz,
            PRIMARY KEY (user_id, sha256)
        )
    """)
    person_table("recovery_codes")

    # A letter and the secret in it: the secret is made when the letter is sent, and only its hash is kept.
    # `user_id` of a registration is the person to be; letters to nobody, written so that an unknown address takes as
    # long as a known one, belong to the nil UUID.
    op.execute("""
        CREATE TABLE letters (
            id uuid PRIMARY KEY,
            user_id uuid NOT NULL,
            purpose text NOT NULL CHECK (
                purpose IN ('register', 'already_registered', 'reset_password', 'change_email', 'notice', 'nobody')
            ),
            email text NOT NULL CHECK (email = lower(email)),
            params jsonb NOT NULL DEFAULT '{}',
            sha256 bytea CONSTRAINT letters_secret_unique UNIQUE,
            created_at timestamptz NOT NULL DEFAULT now(),
            sent_at timestamptz,
            used_at timestamptz,
            expires_at timestamptz NOT NULL
        )
    """)
    op.execute("CREATE INDEX letters_unsent ON letters (created_at) WHERE sent_at IS NULL")
    op.execute("CREATE INDEX letters_expired ON letters (expires_at)")
    person_table("letters")
    looked_up("letters")
    look_up(
        "letter_by_secret",
        "wanted bytea",
        "TABLE (id uuid, user_id uuid, purpose text)",
        "SELECT letter.id, letter.user_id, letter.purpose FROM letters letter WHERE letter.sha256 = wanted",
    )
    # Newest first: letters that SES will never take must not stand in the way of others.
    look_up(
        "unsent_letters",
        "older_than interval",
        "TABLE (id uuid, user_id uuid)",
        """SELECT letter.id, letter.user_id FROM letters letter
            WHERE letter.sent_at IS NULL AND letter.created_at < now() - older_than AND letter.expires_at > now()
            ORDER BY letter.created_at DESC LIMIT 100""",
    )
    look_up(
        "users_with_expired_letters",
        "",
        "SETOF uuid",
        """SELECT DISTINCT letter.user_id FROM letters letter
            WHERE letter.expires_at < now() - interval '1 day' LIMIT 500""",
    )

    # A session is a family of refresh tokens, of which only the newest is good.
    op.execute("""
        CREATE TABLE sessions (
            id uuid PRIMARY KEY,
            user_id uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
            org_id uuid NOT NULL,
            org_locked boolean NOT NULL DEFAULT false,
            method text NOT NULL,
            ip text NOT NULL,
            user_agent text NOT NULL,
            created_at timestamptz NOT NULL DEFAULT now(),
            last_used_at timestamptz NOT NULL DEFAULT now(),
            expires_at timestamptz NOT NULL,
            ended_at timestamptz,
            ended_because text
        )
    """)
    op.execute("CREATE INDEX sessions_user ON sessions (user_id, id DESC)")
    op.execute("CREATE INDEX sessions_expired ON sessions (expires_at)")
    person_table("sessions")
    looked_up("sessions")
    op.execute("""
        CREATE TABLE refresh_tokens (
            sha256 bytea PRIMARY KEY,
            user_id uuid NOT NULL,
            session_id uuid NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
            created_at timestamptz NOT NULL DEFAULT now(),
            used_at timestamptz
        )
    """)
    op.execute("CREATE INDEX refresh_tokens_session ON refresh_tokens (session_id)")
    person_table("refresh_tokens")
    looked_up("refresh_tokens")
    look_up(
        "refresh_token_by_secret",
        "wanted bytea",
        "TABLE (user_id uuid, session_id uuid)",
        "SELECT token.user_id, token.session_id FROM refresh_tokens token WHERE token.sha256 = wanted",
    )
    look_up(
        "users_with_expired_sessions",
        "",
        "SETOF uuid",
        """SELECT DISTINCT session.user_id FROM sessions session
            WHERE session.expires_at < now() - interval '30 days' LIMIT 500""",
    )

    # Who a person is elsewhere: `issuer` is an OIDC issuer, or https://github.com. With `org_id` it is the org's own
    # issuer, whose word counts in that org alone.
    op.execute("""
        CREATE TABLE identities (
            id uuid PRIMARY KEY,
            user_id uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
            issuer text NOT NULL,
            subject text NOT NULL,
            org_id uuid,
            email text NOT NULL,
            created_at timestamptz NOT NULL DEFAULT now(),
            last_used_at timestamptz NOT NULL DEFAULT now(),
            CONSTRAINT identities_once UNIQUE NULLS NOT DISTINCT (issuer, subject, org_id)
        )
    """)
    op.execute("CREATE INDEX identities_user ON identities (user_id)")
    person_table("identities")
    looked_up("identities")
    look_up(
        "user_by_identity",
        "of_issuer text, of_subject text, of_org uuid",
        "uuid",
        """SELECT identity.user_id FROM identities identity
            WHERE identity.issuer = of_issuer AND identity.subject = of_subject
              AND identity.org_id IS NOT DISTINCT FROM of_org""",
    )

    # No tenant's and nobody's: half of a sign-in elsewhere, kept for minutes; failures, under a hash of who failed;
    # the keys that sign tokens, their private halves wrapped by KMS.
    op.execute("""
        CREATE TABLE pending_logins (
            state_sha256 bytea PRIMARY KEY,
            browser_sha256 bytea NOT NULL,
            provider text NOT NULL,
            org_id uuid,
            link_user_id uuid,
            link_session_id uuid,
            nonce text NOT NULL,
            code_verifier text NOT NULL,
            created_at timestamptz NOT NULL DEFAULT now(),
            expires_at timestamptz NOT NULL
        )
    """)
    op.execute("GRANT SELECT, INSERT, DELETE ON pending_logins TO runyard_app")
    op.execute("""
        CREATE TABLE login_failures (
            subject_sha256 bytea PRIMARY KEY,
            failures int NOT NULL,
            last_failed_at timestamptz NOT NULL,
            blocked_until timestamptz NOT NULL
        )
    """)
    op.execute("GRANT SELECT, INSERT, UPDATE, DELETE ON login_failures TO runyard_app")
    op.execute("""
        CREATE TABLE signing_keys (
            kid text PRIMARY KEY,
            public_jwk jsonb NOT NULL,
            private_wrapped bytea NOT NULL,
            created_at timestamptz NOT NULL DEFAULT now(),
            signs_from timestamptz NOT NULL,
            signs_until timestamptz NOT NULL,
            verifies_until timestamptz NOT NULL
        )
    """)
    op.execute("GRANT SELECT, INSERT, UPDATE, DELETE ON signing_keys TO runyard_app")
