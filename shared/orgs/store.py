"""SQL of orgs."""

from typing import LiteralString
from uuid import UUID

from psycopg.errors import UniqueViolation
from psycopg.types.json import Jsonb

from shared.kernel.db import Row, Tx
from shared.kernel.pagination import Slice
from shared.orgs.model import Org, OrgSettings, SlugTaken

INSERT_ORG: LiteralString = """
    INSERT INTO orgs (id, name, slug, plan, metadata)
    VALUES (%(id)s, %(name)s, %(slug)s, %(plan)s, %(metadata)s)
    RETURNING *
"""
FIND_ORG: LiteralString = "SELECT * FROM orgs WHERE id = %(id)s"
# Others may go on adding what belongs to the org meanwhile.
LOCK_ORG: LiteralString = FIND_ORG + " FOR NO KEY UPDATE"
UPDATE_ORG: LiteralString = """
    UPDATE orgs SET name = %(name)s, slug = %(slug)s, metadata = %(metadata)s, updated_at = now()
     WHERE id = %(id)s RETURNING *
"""
SET_SETTINGS: LiteralString = """
    UPDATE orgs SET settings = %(settings)s, updated_at = now() WHERE id = %(id)s RETURNING *
"""
ORGS_OF_CURRENT_USER: LiteralString = "SELECT * FROM orgs_of_current_user()"
PAGE_OF_CURRENT_USER: LiteralString = """
    SELECT * FROM orgs_of_current_user()
     WHERE %(before)s::uuid IS NULL OR id < %(before)s
     ORDER BY id DESC LIMIT %(limit)s
"""


def insert_org(tx: Tx, *, org_id: UUID, name: str, slug: str, plan: str, metadata: dict[str, str]) -> Org:
    values = {"id": org_id, "name": name, "slug": slug, "plan": plan, "metadata": Jsonb(metadata)}
    return _written(tx, INSERT_ORG, values)


def find_org(tx: Tx, org_id: UUID, *, lock: bool = False) -> Org | None:
    row = tx.execute(LOCK_ORG if lock else FIND_ORG, {"id": org_id}).fetchone()
    return None if row is None else _org(row)


def update_org(tx: Tx, org_id: UUID, *, name: str, slug: str, metadata: dict[str, str]) -> Org:
    return _written(tx, UPDATE_ORG, {"id": org_id, "name": name, "slug": slug, "metadata": Jsonb(metadata)})


def set_settings(tx: Tx, org_id: UUID, settings: OrgSettings) -> Org:
    return _written(tx, SET_SETTINGS, {"id": org_id, "settings": Jsonb(settings.to_json())})


def orgs_of_current_user(tx: Tx) -> list[tuple[Org, str]]:
    """Return the orgs of the person whose transaction this is, oldest first, with their role in each."""
    return [(_org(row), row["role"]) for row in tx.execute(ORGS_OF_CURRENT_USER)]


def page_of_current_user(tx: Tx, asked: Slice) -> list[tuple[Org, str]]:
    """Return up to `limit + 1` of them, newest first."""
    rows = tx.execute(PAGE_OF_CURRENT_USER, {"before": asked.before, "limit": asked.limit + 1})
    return [(_org(row), row["role"]) for row in rows]


def _written(tx: Tx, statement: LiteralString, values: dict[str, object]) -> Org:
    try:
        row = tx.execute(statement, values).fetchone()
    except UniqueViolation as error:
        if error.diag.constraint_name == "orgs_slug_unique":
            raise SlugTaken(f"The slug {values['slug']} is taken; choose another.", param="slug") from error
        raise
    assert row is not None  # noqa: S101 - INSERT … RETURNING, and UPDATE of a row that is locked
    return _org(row)


def _org(row: Row) -> Org:
    return Org(
        id=row["id"],
        name=row["name"],
        slug=row["slug"],
        plan=row["plan"],
        settings=OrgSettings.from_json(row["settings"]),
        metadata=row["metadata"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )
