"""Ids: a UUIDv7 inside (sortable by creation), a TypeID such as `run_01h…` outside."""

from uuid import UUID

import uuid_utils
from typeid import TypeID
from typeid.errors import TypeIDException
from uuid_utils.compat import uuid7

from shared.kernel.errors import InvalidRequest

_SUFFIX_LENGTH = 26


def new() -> UUID:
    """Return a fresh UUIDv7."""
    return uuid7()


def show(prefix: str, value: UUID) -> str:
    """Return the public form, e.g. `show("run", …) == "run_01h455vb4pex5vsknk084sn02q"`."""
    return str(TypeID.from_uuid(uuid_utils.UUID(bytes=value.bytes), prefix=prefix))


def read(prefix: str, text: str) -> UUID:
    """Return the UUID inside a public id; raise `InvalidRequest` when it isn't one of this kind."""
    try:
        if not isinstance(text, str) or len(text) != len(prefix) + 1 + _SUFFIX_LENGTH:
            raise ValueError
        parsed = TypeID.from_string(text)
        if parsed.prefix != prefix:
            raise ValueError
        return UUID(bytes=parsed.uuid.bytes)
    except (TypeIDException, ValueError) as error:
        raise InvalidRequest(f"Not an id of the form {prefix}_….", param="id") from error
