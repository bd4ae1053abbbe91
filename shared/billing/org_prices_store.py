"""SQL of what orgs pay for models by agreement."""

from datetime import datetime
from typing import LiteralString
from uuid import UUID

from shared.billing.org_prices_model import OrgPrice, OrgPriceExists
from shared.billing.prices import TokenPrice
from shared.kernel.db import Row, Tx
from shared.kernel.pagination import Slice

_SOURCE = "agreed with the org"
_COLUMNS: LiteralString = """
    id, model, effective_from, input_microusd, cached_microusd, written_microusd, output_microusd, created_by,
    created_at
"""
INSERT: LiteralString = """
    INSERT INTO org_prices (id, org_id, model, effective_from, input_microusd, cached_microusd, written_microusd,
                            output_microusd, created_by, created_at)
    VALUES (%(id)s, current_setting('app.current_org_id')::uuid, %(model)s, %(effective_from)s, %(input)s, %(cached)s,
            %(written)s, %(output)s, %(created_by)s, %(created_at)s)
    ON CONFLICT ON CONSTRAINT org_prices_once DO NOTHING RETURNING 1
"""
LIST: LiteralString = f"""
    SELECT {_COLUMNS} FROM org_prices
     WHERE %(before)s::uuid IS NULL OR id < %(before)s
     ORDER BY id DESC LIMIT %(limit)s
"""
FIND: LiteralString = f"SELECT {_COLUMNS} FROM org_prices WHERE id = %(id)s"
DELETE: LiteralString = "DELETE FROM org_prices WHERE id = %(id)s RETURNING 1"
# Calls under way were priced by what held when they began: hence the hour.
FROM_NOW_ON: LiteralString = f"""
    SELECT {_COLUMNS} FROM org_prices agreed
     WHERE effective_from >= coalesce((SELECT max(earlier.effective_from) FROM org_prices earlier
                                        WHERE earlier.model = agreed.model
                                          AND earlier.effective_from <= %(now)s - interval '1 hour'), '-infinity')
     ORDER BY effective_from DESC
"""


def insert(tx: Tx, price: OrgPrice) -> None:
    """Store the price; raise `OrgPriceExists`."""
    figures = price.price
    values = {
        "id": price.id,
        "model": price.model,
        "effective_from": price.effective_from,
        "input": None if figures is None else figures.input_microusd,
        "cached": None if figures is None else figures.cached_microusd,
        "written": None if figures is None else figures.written_microusd,
        "output": None if figures is None else figures.output_microusd,
        "created_by": price.created_by,
        "created_at": price.created_at,
    }
    if tx.execute(INSERT, values).fetchone() is None:
        raise OrgPriceExists("There is a price of this model from this moment on.", param="effective_from")


def list_prices(tx: Tx, asked: Slice) -> list[OrgPrice]:
    return [_price(row) for row in tx.execute(LIST, {"before": asked.before, "limit": asked.limit + 1})]


def find(tx: Tx, price_id: UUID) -> OrgPrice | None:
    row = tx.execute(FIND, {"id": price_id}).fetchone()
    return None if row is None else _price(row)


def delete(tx: Tx, price_id: UUID) -> bool:
    """Return whether it was there."""
    return tx.execute(DELETE, {"id": price_id}).fetchone() is not None


def from_now_on(tx: Tx, *, now: datetime) -> list[OrgPrice]:
    return [_price(row) for row in tx.execute(FROM_NOW_ON, {"now": now})]


def _price(row: Row) -> OrgPrice:
    figures = None
    if row["input_microusd"] is not None:
        figures = TokenPrice(
            input_microusd=row["input_microusd"],
            cached_microusd=row["cached_microusd"],
            written_microusd=row["written_microusd"],
            output_microusd=row["output_microusd"],
            source=_SOURCE,
        )
    return OrgPrice(
        id=row["id"],
        model=row["model"],
        effective_from=row["effective_from"],
        price=figures,
        created_by=row["created_by"],
        created_at=row["created_at"],
    )
