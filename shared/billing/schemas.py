"""Public JSON of credits."""

from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import Field

from shared.billing.model import Balance, Entry, EntryKind
from shared.kernel.fields import EntryId, Input, OrgId, Output
from shared.kernel.money import MICROUSD_PER_CREDIT, MICROUSD_PER_USD


class GrantCredits(Input):
    amount_microusd: Annotated[
        int,
        Field(
            gt=0,
            le=1_000_000 * MICROUSD_PER_USD,
            description="Millionths of a US dollar: 10,000 are one credit.",
            examples=[5_000_000],
        ),
    ]
    reason: Annotated[str, Field(min_length=1, max_length=200, examples=["Invoice 2026-17 paid"])]
    org_id: Annotated[OrgId | None, Field(description="Who is given them. By default the operator's own org.")] = None
    source_id: Annotated[
        str | None,
        Field(
            min_length=1,
            max_length=200,
            description="Your name of the cause. The same one is granted once, however often it is sent.",
            examples=["invoice:2026-17"],
        ),
    ] = None


class BalanceOut(Output):
    """`granted + refunded - settled - expired - held = available`, in millionths of a US dollar."""

    object: Literal["credit_balance"] = "credit_balance"
    available_microusd: int = Field(description="What can be spent now.", examples=[4_999_625])
    available_credits: str = Field(description="The same in credits of one US cent.", examples=["499.9625"])
    held_microusd: int = Field(description="Set aside for work under way.")
    granted_microusd: int
    refunded_microusd: int
    settled_microusd: int = Field(description="Spent so far.")
    expired_microusd: int

    @classmethod
    def of(cls, balance: Balance) -> Self:
        whole, rest = divmod(balance.available_microusd, MICROUSD_PER_CREDIT)
        return cls(
            available_microusd=balance.available_microusd,
            available_credits=f"{whole}.{rest:04d}",
            held_microusd=balance.held_microusd,
            granted_microusd=balance.granted_microusd,
            refunded_microusd=balance.refunded_microusd,
            settled_microusd=balance.settled_microusd,
            expired_microusd=balance.expired_microusd,
        )


class EntryOut(Output):
    """One line of the ledger."""

    id: EntryId
    object: Literal["credit_entry"] = "credit_entry"
    entry_no: int = Field(description="Counts your entries, in the order in which they took effect.")
    kind: EntryKind
    amount_microusd: int = Field(description="Never negative: the kind says where it went.")
    source_id: str = Field(description="What caused it.", examples=["run:run_01h455vb4pex5vsknk084sn02q"])
    reason: str
    available_after_microusd: int
    held_after_microusd: int
    created_at: datetime

    @classmethod
    def of(cls, entry: Entry) -> Self:
        return cls(
            id=entry.id,
            entry_no=entry.entry_no,
            kind=entry.kind,
            amount_microusd=entry.amount_microusd,
            source_id=entry.source_id,
            reason=entry.reason,
            available_after_microusd=entry.available_after_microusd,
            held_after_microusd=entry.held_after_microusd,
            created_at=entry.created_at,
        )
