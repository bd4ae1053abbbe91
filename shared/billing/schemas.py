"""Public JSON of credits."""

from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import AwareDatetime, Field

from shared.billing.lots import Lot, LotKind, NextExpiry
from shared.billing.model import Balance, Entry, EntryKind, Place
from shared.kernel.fields import EntryId, Input, LotId, OrgId, Output
from shared.kernel.money import MICROUSD_PER_CREDIT, MICROUSD_PER_USD

_MOST_MICROUSD = 1_000_000 * MICROUSD_PER_USD


Reason = Annotated[str, Field(min_length=1, max_length=200, examples=["Invoice 2026-17 paid"])]
Receiver = Annotated[OrgId | None, Field(description="Whose account it is. By default the operator's own org's.")]
Source = Annotated[
    str | None,
    Field(
        min_length=1,
        max_length=200,
        description="Your name of the cause. The same one takes effect once, however often it is sent.",
        examples=["invoice:2026-17"],
    ),
]
Amount = Annotated[
    int,
    Field(
        gt=0,
        le=_MOST_MICROUSD,
        description="Millionths of a US dollar: 10,000 are one credit.",
        examples=[5_000_000],
    ),
]


class GrantCredits(Input):
    amount_microusd: Amount
    reason: Reason
    org_id: Receiver = None
    source_id: Source = None
    kind: Annotated[
        Literal[LotKind.PURCHASE, LotKind.PLAN, LotKind.PROMO],
        Field(description="Where they come from. What is given for a while is spent before what was paid for."),
    ] = LotKind.PURCHASE
    expires_at: Annotated[
        AwareDatetime | None,
        Field(description="When what is left of them is lost. By default never.", examples=["2100-01-01T00:00:00Z"]),
    ] = None
    priority: Annotated[
        int | None,
        Field(ge=0, le=1000, description="The lower, the sooner they are spent. By default 50, 100 or 200 by kind."),
    ] = None


class RefundCredits(Input):
    amount_microusd: Amount
    reason: Annotated[Reason, Field(examples=["Run of March 3 failed by our fault"])]
    org_id: Receiver = None
    source_id: Annotated[Source, Field(examples=["ticket:811"])] = None


class AdjustCredits(Input):
    amount_microusd: Annotated[
        int,
        Field(
            ge=-_MOST_MICROUSD,
            le=_MOST_MICROUSD,
            description="Above zero: credits are added. Below: they are taken from what is available.",
            examples=[250_000],
        ),
    ]
    reason: Annotated[Reason, Field(examples=["Rounding of March corrected"])]
    org_id: Receiver = None
    source_id: Annotated[Source, Field(examples=["correction:2026-03"])] = None


class ExpiryOut(Output):
    """What is lost next, if nothing of it is spent before."""

    amount_microusd: int
    at: datetime

    @classmethod
    def of(cls, expiry: NextExpiry) -> Self:
        return cls(amount_microusd=expiry.amount_microusd, at=expiry.at)


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
    owed_microusd: int = Field(description="Used beyond what was available: the next credits pay it first.")
    expires_next: ExpiryOut | None = Field(description="What is lost next if it isn't spent before.")

    @classmethod
    def of(cls, balance: Balance, expires_next: NextExpiry | None) -> Self:
        whole, rest = divmod(balance.available_microusd, MICROUSD_PER_CREDIT)
        return cls(
            available_microusd=balance.available_microusd,
            available_credits=f"{whole}.{rest:04d}",
            held_microusd=balance.held_microusd,
            granted_microusd=balance.granted_microusd,
            refunded_microusd=balance.refunded_microusd,
            settled_microusd=balance.settled_microusd,
            expired_microusd=balance.expired_microusd,
            owed_microusd=balance.owed_microusd,
            expires_next=None if expires_next is None else ExpiryOut.of(expires_next),
        )


class EntryOut(Output):
    """One line of the ledger: it moves an amount from one place to another."""

    id: EntryId
    object: Literal["credit_entry"] = "credit_entry"
    entry_no: int = Field(description="Counts your entries, in the order in which they took effect.")
    kind: EntryKind
    amount_microusd: int = Field(description="Never negative: the kind says where it went.")
    moved_from: Place = Field(description="Where it was; `outside` is whoever gives or takes credits.")
    moved_to: Place
    source_id: str = Field(description="What caused it.", examples=["run:run_01h455vb4pex5vsknk084sn02q"])
    part_id: str = Field(description="Which part of its cause it is, where there are several; else empty.")
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
            moved_from=entry.kind.moves[0],
            moved_to=entry.kind.moves[1],
            source_id=entry.source_id,
            part_id=entry.part_id,
            reason=entry.reason,
            available_after_microusd=entry.available_after_microusd,
            held_after_microusd=entry.held_after_microusd,
            created_at=entry.created_at,
        )


class LotOut(Output):
    """Credits of one origin, and what is left of them to spend."""

    id: LotId
    object: Literal["credit_grant"] = "credit_grant"
    kind: LotKind
    amount_microusd: int
    remaining_microusd: int = Field(description="What of it is available now: neither spent nor set aside.")
    priority: int = Field(description="The lower, the sooner it is spent; then what ends first, then the oldest.")
    expires_at: datetime | None
    source_id: str = Field(description="What caused it.", examples=["invoice:2026-17"])
    created_at: datetime

    @classmethod
    def of(cls, lot: Lot) -> Self:
        return cls(
            id=lot.id,
            kind=lot.kind,
            amount_microusd=lot.amount_microusd,
            remaining_microusd=lot.remaining_microusd,
            priority=lot.priority,
            expires_at=lot.expires_at,
            source_id=lot.source_id,
            created_at=lot.created_at,
        )
