"""Use cases of recorded calls: list, read."""

from uuid import UUID

from shared.inference import store
from shared.inference.calls import Call
from shared.inference.store import Filter as Filter
from shared.kernel import ids
from shared.kernel.db import Tx
from shared.kernel.errors import NotFound
from shared.kernel.pagination import Slice


def list_calls(tx: Tx, asked: Slice, wanted: Filter) -> list[Call]:
    """Return up to `limit + 1` calls that match, the newest first."""
    return store.list_calls(tx, asked, wanted)


def get_call(tx: Tx, call_id: UUID) -> Call:
    call = store.find_call(tx, call_id)
    if call is None:
        raise NotFound.of("model call", ids.show("call", call_id))
    return call
