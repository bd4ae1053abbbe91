"""SQL of orgs and their members."""

from typing import LiteralString
from uuid import UUID

from psycopg.errors import UniqueViolation
from psycopg.types.json import Jsonb

from shared.kernel.db import Row, Tx
from shared.orgs.model import Org, SlugTaken

INSERT_ORG: LiteralString = """
    INSERT INTO orgs (id, name, slug, plan, metadata)
    VALUES (%(id)s, %(name)s, %(slug)s, %(plan)s, %(metadata)s)
    RETURNING *
"""
FIND_ORG: LiteralString = "SELECT * FROM orgs WHERE id = %(id)s"
INSERT_MEMBER: LiteralString = """
    INSERT INTO memberships (org_id, user_id, role)
    VALUES (current_setting('app.current_org_id')::uuid, %(user_id)s, %(role)s)
"""
ORGS_OF_CURRENT_USER: LiteralString = "SELECT * FROM orgs_of_current_user()"


def insert_org(tx: Tx, *, org_id: UUID, name: str, slug: str, plan: str, metadata: dict[str, str]) -> Org:
    try:
        row = tx.execute(
            INSERT_ORG, {"id": org_id, "name": name, "slug": slug, "plan": plan, "metadata": Jsonb(metadata)}
        ).fetchone()
    except UniqueViolation as error:
        if error.diag.constraint_name == "orgs_slug_unique":
            raise SlugTaken(f"The slug {slug} is taken; choose another.", param="slug") from error
        raise
    assert row is not None  # noqa: S101 - INSERT … RETURNING
    return _org(row)


def find_org(tx: Tx, org_id: UUID) -> Org | None:
    row = tx.execute(FIND_ORG, {"id": org_id}).fetchone()
    return None if row is None else _org(row)


def insert_member(tx: Tx, *, user_id: UUID, role: str) -> None:
    tx.execute(INSERT_MEMBER, {"user_id": user_id, "role": role})


def orgs_of_current_user(tx: Tx) -> list[tuple[Org, str]]:
    """Return the orgs of the person whose transaction this is, oldest first, with their role in each."""
    return [(_org(row), row["role"]) for row in tx.execute(ORGS_OF_CURRENT_USER)]


def _org(row: Row) -> Org:
    return Org(
        id=row["id"],
        name=row["name"],
        slug=row["slug"],
        plan=row["plan"],
        settings=row["settings"],
        metadata=row["metadata"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )
