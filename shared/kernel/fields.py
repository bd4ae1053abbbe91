"""Pydantic types that several areas' public JSON shares: ids, metadata, pages."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from shared.kernel import ids
from shared.kernel.errors import InvalidRequest


@dataclass(frozen=True, slots=True)
class Prefix:
    """Marks a `UUID` that is a TypeID with this prefix in JSON, paths and queries."""

    value: str

    def _parse(self, given: object) -> UUID:
        if isinstance(given, UUID):
            return given
        try:
            return ids.read(self.value, str(given))
        except InvalidRequest as error:
            raise ValueError(error.message) from error

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            self._parse,
            serialization=core_schema.plain_serializer_function_ser_schema(
                lambda value: ids.show(self.value, value), return_schema=core_schema.str_schema()
            ),
        )

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {
            "type": "string",
            "pattern": f"^{self.value}_[0-7][0-9a-hjkmnp-tv-z]{{25}}$",
            "examples": [f"{self.value}_01h455vb4pex5vsknk084sn02q"],
        }


OrgId = Annotated[UUID, Prefix("org")]
KeyId = Annotated[UUID, Prefix("key")]
UserId = Annotated[UUID, Prefix("user")]
SessionId = Annotated[UUID, Prefix("ses")]
InvitationId = Annotated[UUID, Prefix("inv")]
TeamId = Annotated[UUID, Prefix("team")]
GrantId = Annotated[UUID, Prefix("grant")]
ServiceAccountId = Annotated[UUID, Prefix("svc")]
IdentityId = Annotated[UUID, Prefix("idn")]
AgentId = Annotated[UUID, Prefix("agent")]
RunId = Annotated[UUID, Prefix("run")]
SandboxId = Annotated[UUID, Prefix("sbx")]
CommandId = Annotated[UUID, Prefix("cmd")]
MemoryId = Annotated[UUID, Prefix("mem")]
EntryId = Annotated[UUID, Prefix("entry")]
LotId = Annotated[UUID, Prefix("lot")]
UsageId = Annotated[UUID, Prefix("usage")]
AuditId = Annotated[UUID, Prefix("audit")]
RouteId = Annotated[UUID, Prefix("rte")]
ProviderId = Annotated[UUID, Prefix("prv")]
BudgetId = Annotated[UUID, Prefix("bud")]
CallId = Annotated[UUID, Prefix("call")]
PriceId = Annotated[UUID, Prefix("price")]

# Far enough from the ends of the calendar for any arithmetic.
Moment = Annotated[AwareDatetime, Field(ge=datetime(2000, 1, 1, tzinfo=UTC), lt=datetime(3000, 1, 1, tzinfo=UTC))]

Metadata = Annotated[
    dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=512)]],
    Field(
        max_length=32,
        description="Up to 32 string pairs of your own; keys to 64 characters, values to 512.",
        examples=[{"team": "research"}],
    ),
]


def _refuse_unstorable(value: object) -> None:
    """Raise `ValueError` on text that Postgres can't store: NUL characters and lone surrogates."""
    match value:
        case str():
            if "\x00" in value:
                raise ValueError("Text must not contain NUL characters.")
            try:
                value.encode()
            except UnicodeEncodeError as error:
                raise ValueError("Text must be valid Unicode; a lone surrogate was found.") from error
        case dict():
            for key, item in value.items():
                _refuse_unstorable(key)
                _refuse_unstorable(item)
        case list():
            for item in value:
                _refuse_unstorable(item)
        case _:
            pass


class Input(BaseModel):
    """A request body: unknown fields are refused, so that a misspelt option never goes unnoticed."""

    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _storable(cls, value: object) -> object:
        _refuse_unstorable(value)
        return value


class Output(BaseModel):
    """An answer's body."""

    model_config = ConfigDict(frozen=True)


class Page[T](Output):
    """One page of a list, newest first."""

    object: Literal["list"] = "list"
    data: list[T]
    has_more: bool
    next_cursor: str | None = Field(description="Give this as `cursor` to get the next page.")
